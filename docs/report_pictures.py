"""The pictures of docs/report.md and the README: parts of a report, as Chromium shows them.

python run_train.py --config=configs/synthetic_gaitset.py --workdir=runs/synthetic
python -m docs.report_pictures runs/synthetic/report.html

Needs requirements-dev.txt and a Chromium of the system.
"""

import argparse
import io
import json
from pathlib import Path

from ml_collections import ConfigDict
from PIL import Image

from configs.rows import AUGMENTATION
from gil_jax.data.dataset import open_dataset
from gil_jax.pictures import draw_step
from tests.browser import open_browser

IMAGES = Path(__file__).parent / "images"
# Name of the picture -> what it shows, by CSS; several are put side by side.
PARTS = {
    "summary": ("#summary",),
    "tables": ("#tables",),
    "views": ("#views figure:nth-of-type(1)", "#views figure:nth-of-type(3)"),
    "curves": ("#cmc", "#roc", "#det"),
    "distances": ("#distances figure:nth-of-type(1)", "#distances figure:nth-of-type(3)"),
    "training": ("#training-loss", "#training-nonzero", "#training-norms"),
    "map": ("#map figure",),
    "similarity": ("#similarity figure",),
    "mistakes": ("#mistakes figure:nth-of-type(1)",),
}
HIGHEST = 550  # pixels of a part; the rest is cropped
COLOURS = 128  # of a picture


def save(image: Image.Image, name: str, width: int) -> None:
    """Shrink a picture to `width` pixels at most and write it with a palette."""
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    path = IMAGES / f"{name}.png"
    image.quantize(COLOURS, kmeans=3, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {image.width} x {image.height}, {path.stat().st_size / 1000:.0f} kB")


def beside(images: list[Image.Image], gap: int = 12) -> Image.Image:
    """Put pictures side by side on white."""
    size = sum(image.width + gap for image in images) - gap, max(image.height for image in images)
    joined, left = Image.new("RGB", size, "white"), 0
    for image in images:
        joined.paste(image, (left, 0))
        left += image.width + gap
    return joined


def below(images: list[Image.Image], height: int, margin: int = 14) -> Image.Image:
    """Put pictures below each other, up to a height, on the colour of the first one's corner."""
    size = max(image.width for image in images) + 2 * margin, height
    joined, top = Image.new("RGB", size, images[0].getpixel((0, 0))), margin
    for image in images:
        joined.paste(image, (margin, top))
        top += image.height + margin
    return joined


def draw_training_batch(workdir: Path) -> None:
    """Draw what the run's first batch would be with augmentation, its first people."""
    config = ConfigDict(json.loads((workdir / "config.json").read_text(encoding="utf-8")))
    config.data.update({"augment": AUGMENTATION, "subjects_per_batch": 4})
    save(Image.fromarray(draw_step(config, open_dataset(config), 1)), "report_batch", 1000)


def main() -> None:
    """Open the report and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    report = parser.parse_args().report.resolve()
    draw_training_batch(report.parent)
    with open_browser() as pages:
        with pages.open(report, 1180) as page:
            for name, selectors in PARTS.items():
                taken = [_open(page.locator(selector).first.screenshot()) for selector in selectors]
                taken = [image.crop((0, 0, image.width, min(image.height, HIGHEST))) for image in taken]
                save(beside(taken), f"report_{name}", 860)
            page.evaluate("() => document.querySelector('#map').scrollIntoView({ behavior: 'instant' })")
            wide = _open(page.screenshot())
        with pages.open(report, 390, color_scheme="dark") as page:
            phone = [_open(page.locator(part).first.screenshot()) for part in ("#summary", "#distances figure")]
        save(beside([wide, below(phone, wide.height)]), "report", 1100)


def _open(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


if __name__ == "__main__":
    main()
