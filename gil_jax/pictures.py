"""Pictures of a training, on request: batches as the network gets them, and figures of its evaluations.

config.train.pictures_every draws the batch of step 1 and of every N-th step, and with every evaluation its heat maps
and similarities: PNG files in <workdir>/pictures, and the same files as images of the TensorBoard log. A batch is read
and augmented again from (seed, step), so the training itself does nothing else with pictures than without.
"""

import io
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Int, UInt8
from ml_collections import ConfigDict
from PIL import Image
from tqdm import tqdm

from gil_jax.augmentation import make_augmentation
from gil_jax.data.dataset import Dataset
from gil_jax.data.files import write_atomically
from gil_jax.data.findings import sequence_names
from gil_jax.data.loader import train_batches
from gil_jax.data.sampler import draw_sequences
from gil_jax.figures import draw_heat_map, draw_similarity
from gil_jax.lettering import MUTED, PAPER, caption, shorten_to, write
from gil_jax.metrics_log import MetricsLog
from gil_jax.train_step import augment_batch
from gil_jax.training import batch_size
from gil_jax.types import Batch, EmbeddingTable

MOST_PEOPLE = 32  # of a sheet
ACROSS = 32  # silhouettes of a line, about
MOST_FRAMES = 8  # of a sequence
_LABEL, _GAP = 30, 8  # pixels above the silhouettes of a sequence: two lines of text; and between sequences


class Pictures:
    """The pictures of a training. Where the disk does not take one, it says so and the training goes on."""

    def __init__(self, config: ConfigDict, dataset: Dataset, workdir: str, log: MetricsLog):
        self._config, self._dataset, self._log = config, dataset, log
        self._folder = Path(workdir) / "pictures"

    def after_step(self, step: int, metrics: dict[str, Array]) -> None:
        """Draw the batch of a step, if that is due; metrics: of the step, which is waited for, so that it is timed."""
        if step == 1 or step % self._config.train.pictures_every == 0:
            jax.block_until_ready(metrics)
            with self._log.not_timed():
                self._add("batch", step, draw_step(self._config, self._dataset, step))

    def add_evaluation(self, step: int, report: dict, table: EmbeddingTable | None) -> None:
        """Draw the heat map of every probe set, and the similarities of some sequences where embeddings are held."""
        for name in report["rank1"]:
            self._add(f"rank1/{name}", step, draw_heat_map(report, name))
        if table is not None:
            self._add("similarity", step, draw_similarity(table, report["dataset"], step))

    def _add(self, tag: str, step: int, picture: UInt8[np.ndarray, "h w *c"]) -> None:
        path = self._folder / f"{_file_name(tag)}-{step:06d}.png"
        try:
            self._folder.mkdir(exist_ok=True)
            png = encode(picture)
            write_atomically(path, png)
            self._log.write_image(step, f"pictures/{tag}", png, picture.shape)
        except OSError as error:
            tqdm.write(f"{path} can't be written, the training goes on: {error}")


def encode(picture: UInt8[np.ndarray, "h w *c"]) -> bytes:
    """Encode a grey or RGB picture as PNG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def batch_of_step(config: ConfigDict, dataset: Dataset, step: int) -> tuple[Batch, Int[np.ndarray, " n"]]:
    """Read the global batch of a step (from 1) and augment it as the step does; also the rows of its sequences."""
    n, data = batch_size(config), config.data
    reading = data.to_dict() | {"workers": 0}
    subjects = dataset.rows_of_subject
    batch = next(train_batches(dataset.source, subjects, reading, config.seed, step - 1, step, np.arange(n)))
    rows, _ = draw_sequences(subjects, data.subjects_per_batch, data.sequences_per_subject, config.seed, step - 1)
    augment = make_augmentation(data.augment, data.height)
    if augment is not None:
        augmented = jax.jit(lambda batch, before: augment_batch(augment, config.seed, before, batch))
        batch = batch._replace(silhouettes=np.asarray(augmented(batch, np.int32(step - 1)).silhouettes))
    return batch, rows


def draw_step(config: ConfigDict, dataset: Dataset, step: int) -> UInt8[np.ndarray, "height width"]:
    """Draw the contact sheet of the batch of a step (from 1)."""
    batch, rows = batch_of_step(config, dataset, step)
    names, sequences = sequence_names(dataset.source.table), config.data.sequences_per_subject
    title = f"{config.data.name}: the training batch of step {step}, as the network gets it"
    text = (
        f"A row is a person of the batch, {config.data.subjects_per_batch} in all, with its {sequences} sequences from "
        "left to right: condition, view, number of frames, and some of the frames. Augmentation: "
        f"{', '.join(config.data.augment.get('order', ())) or 'none'}."
    )
    return draw_batch(batch, [names[row] for row in rows], sequences, title, text)


def draw_batch(
    batch: Batch, names: list[str], sequences: int, title: str, text: str
) -> UInt8[np.ndarray, "height width"]:
    """Draw a contact sheet: a row for each person of a batch.

    names: <subject>/<condition>/<view> of the rows of the batch. sequences: of each person.
    """
    frames = min(max(ACROSS // sequences, 1), MOST_FRAMES, batch.silhouettes.shape[1])
    across = max(ACROSS // frames, 1)  # sequences of a line; more go on below
    people = min(len(names) // sequences, MOST_PEOPLE)
    blocks = [_draw_sequence(batch.silhouettes[i][batch.frame_mask[i]], name, frames) for i, name in enumerate(names)]
    empty = np.full_like(blocks[0], PAPER)
    lines = []
    for person in range(people):
        own = blocks[person * sequences : (person + 1) * sequences]
        parts = [own[i : i + across] for i in range(0, sequences, across)]
        lines += [np.hstack([*part, *[empty] * (min(across, sequences) - len(part))]) for part in parts]
    if people < len(names) // sequences:
        text += f" The first {people} people are shown."
    sheet = np.vstack(lines)
    sheet = np.pad(sheet, ((0, _GAP), (_GAP, max(420 - sheet.shape[1], 0))), constant_values=PAPER)
    return np.vstack([caption(title, text, sheet.shape[1]), sheet])


def _draw_sequence(
    silhouettes: UInt8[np.ndarray, "s h w"], name: str, frames: int
) -> UInt8[np.ndarray, "height width"]:
    """Draw some frames of a sequence side by side, its labels above; where it has fewer, the rest is left empty."""
    _, height, width = silhouettes.shape
    chosen = silhouettes[np.unique(np.linspace(0, len(silhouettes) - 1, frames).astype(int))]
    block = np.full((_LABEL + height, frames * (width + 1) - 1 + _GAP), PAPER, np.uint8)
    subject, condition, view = name.split("/")
    write(block, shorten_to(subject, block.shape[1] - _GAP), (0, 0))
    write(block, shorten_to(f"{condition} {view} · {len(silhouettes)}", block.shape[1] - _GAP, 11), (0, 14), 11, MUTED)
    for place, frame in enumerate(chosen):
        block[_LABEL:, place * (width + 1) : place * (width + 1) + width] = frame
    return block


def _file_name(tag: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in tag)
