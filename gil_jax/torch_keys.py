"""Names of PyTorch checkpoints of the OpenGait family: one explicit table for every network."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

Table = dict[str, tuple[str, str]]

# ours -> (theirs, the letters of their axes): O out, I in, D time, H height, W width.
GAITSET = {
    "frame1.first.kernel": ("set_block1.forward_block.0.conv.weight", "OIHW"),
    "frame1.second.kernel": ("set_block1.forward_block.2.conv.weight", "OIHW"),
    "frame2.first.kernel": ("set_block2.forward_block.0.conv.weight", "OIHW"),
    "frame2.second.kernel": ("set_block2.forward_block.2.conv.weight", "OIHW"),
    "frame3.first.kernel": ("set_block3.forward_block.0.conv.weight", "OIHW"),
    "frame3.second.kernel": ("set_block3.forward_block.2.conv.weight", "OIHW"),
    "global2.first.kernel": ("gl_block2.0.conv.weight", "OIHW"),
    "global2.second.kernel": ("gl_block2.2.conv.weight", "OIHW"),
    "global3.first.kernel": ("gl_block3.0.conv.weight", "OIHW"),
    "global3.second.kernel": ("gl_block3.2.conv.weight", "OIHW"),
    "head.kernel": ("Head.fc_bin", "PIO"),
}

# The original GaitSet release: the same layers one by one, and the parts in another order.
GAITSET_ORIGINAL = {
    "frame1.first.kernel": ("set_layer1.forward_block.conv.weight", "OIHW"),
    "frame1.second.kernel": ("set_layer2.forward_block.conv.weight", "OIHW"),
    "frame2.first.kernel": ("set_layer3.forward_block.conv.weight", "OIHW"),
    "frame2.second.kernel": ("set_layer4.forward_block.conv.weight", "OIHW"),
    "frame3.first.kernel": ("set_layer5.forward_block.conv.weight", "OIHW"),
    "frame3.second.kernel": ("set_layer6.forward_block.conv.weight", "OIHW"),
    "global2.first.kernel": ("gl_layer1.conv.weight", "OIHW"),
    "global2.second.kernel": ("gl_layer2.conv.weight", "OIHW"),
    "global3.first.kernel": ("gl_layer3.conv.weight", "OIHW"),
    "global3.second.kernel": ("gl_layer4.conv.weight", "OIHW"),
    "head.kernel": ("fc_bin", "PIO"),
}


def stages_table(prefix: str, convolutions: tuple) -> Table:
    """Blocks of Baseline and GaitPart, whose convolutions are numbered with the activations and poolings."""
    halves = ("first", "second")
    return {
        f"stages.{index // 2}.{halves[index % 2]}.kernel": (f"{prefix}.{number}.conv.weight", "OIHW")
        for index, number in enumerate(convolutions)
    }


def baseline_table(stages: int) -> Table:
    """Baseline with `stages` stages."""
    return {
        **stages_table("Backbone.forward_block.feature", (0, 2, 5, 7, 10, 12, 14, 16)[: 2 * stages]),
        "head.kernel": ("FCs.fc_bin", "PIO"),
        **BNNECK,
    }


def gaitpart_table(stages: int) -> Table:
    """GaitPart with `stages` stages; its parts are separate modules there, one array here."""
    return {
        **stages_table("Backbone.forward_block.feature", (0, 2, 5, 7, 10, 12, 14, 16)[: 2 * stages]),
        "short.squeeze.kernel": ("TFA.pooling_func.conv1d3x1.{part}.0.conv.weight", "OIT"),
        "short.expand.kernel": ("TFA.pooling_func.conv1d3x1.{part}.2.conv.weight", "OIT"),
        "long.squeeze.kernel": ("TFA.pooling_func.conv1d3x3.{part}.0.conv.weight", "OIT"),
        "long.expand.kernel": ("TFA.pooling_func.conv1d3x3.{part}.2.conv.weight", "OIT"),
        "head.kernel": ("Head.fc_bin", "PIO"),
    }


def gaitgl_table(depth: int, neck: bool) -> Table:
    """GaitGL; the CASIA-B net has one layer a stage and no number in its keys, the OU-MVLP net two and a number."""
    layers = {}
    for index in range(depth):
        layers[f"first.{index}.kernel"] = (f"conv3d.{2 * index}.conv3d.weight", "OIDHW")
        number = f".{index}" if depth > 1 else ""
        for stage, theirs in (("before_pool", "GLConvA0"), ("after_pool", "GLConvA1"), ("last", "GLConvB2")):
            layers[f"{stage}.{index}.whole.kernel"] = (f"{theirs}{number}.global_conv3d.conv3d.weight", "OIDHW")
            layers[f"{stage}.{index}.local.kernel"] = (f"{theirs}{number}.local_conv3d.conv3d.weight", "OIDHW")
    head = (
        _neck("Head0")
        if neck
        else {
            "head.kernel": ("Head0.fc_bin", "PIO"),
            **_norm("norm", "Bn"),
            "classifier.kernel": ("Head1.fc_bin", "PIO"),
        }
    )
    return {**layers, "shorten.kernel": ("LTA.0.conv3d.weight", "OIDHW"), "mean.exponent": ("HPP.p", "C"), **head}


GLN_PHASE_1 = {
    "frame0.first.kernel": ("sil_stage_0.forward_block.0.conv.weight", "OIHW"),
    "frame0.second.kernel": ("sil_stage_0.forward_block.2.conv.weight", "OIHW"),
    "frame1.first.kernel": ("sil_stage_1.forward_block.0.conv.weight", "OIHW"),
    "frame1.second.kernel": ("sil_stage_1.forward_block.2.conv.weight", "OIHW"),
    "frame2.first.kernel": ("sil_stage_2.forward_block.0.conv.weight", "OIHW"),
    "frame2.second.kernel": ("sil_stage_2.forward_block.2.conv.weight", "OIHW"),
    "set1.first.kernel": ("set_stage_1.0.conv.weight", "OIHW"),
    "set1.second.kernel": ("set_stage_1.2.conv.weight", "OIHW"),
    "set2.first.kernel": ("set_stage_2.0.conv.weight", "OIHW"),
    "set2.second.kernel": ("set_stage_2.2.conv.weight", "OIHW"),
    "lateral0.kernel": ("lateral_layer1.weight", "OIHW"),
    "lateral1.kernel": ("lateral_layer2.weight", "OIHW"),
    "lateral2.kernel": ("lateral_layer3.weight", "OIHW"),
    "smooth0.kernel": ("smooth_layer1.weight", "OIHW"),
    "smooth1.kernel": ("smooth_layer2.weight", "OIHW"),
    "smooth2.kernel": ("smooth_layer3.weight", "OIHW"),
    "head.kernel": ("Head.fc_bin", "PIO"),
}

GLN_PHASE_2 = {
    **GLN_PHASE_1,
    "compact.encoder_norm.scale": ("encoder_bn.weight", "C"),
    "compact.encoder_norm.fixed_bias": ("encoder_bn.bias", "C"),
    "compact.encoder_norm.mean": ("encoder_bn.running_mean", "C"),
    "compact.encoder_norm.var": ("encoder_bn.running_var", "C"),
    "compact.reduce.kernel": ("reduce_fc.weight", "OI"),
    "compact.reduced_norm.scale": ("reduce_bn.weight", "C"),
    "compact.reduced_norm.fixed_bias": ("reduce_bn.bias", "C"),
    "compact.reduced_norm.mean": ("reduce_bn.running_mean", "C"),
    "compact.reduced_norm.var": ("reduce_bn.running_var", "C"),
    "compact.classifier.kernel": ("reduce_cls.weight", "OI"),
}


def gaitbase_table(channels: tuple, blocks: tuple) -> Table:
    """GaitBase: the names of torchvision's ResNet."""
    prefix = "Backbone.forward_block"
    table = _normed("backbone.first", f"{prefix}.conv1.conv", f"{prefix}.bn1", "OIHW")
    for stage, block, has_projection in _blocks(channels, blocks):
        table |= _basic_block(stage, block, f"{prefix}.layer{stage + 1}.{block}", has_projection, "OIHW")
    return table | _neck("FCs")


def deepgaitv2_table(channels: tuple, blocks: tuple, mode: str) -> Table:
    """DeepGaitV2; its first stage, and in the mode 2d every stage, is wrapped into a module that works per frame."""
    table = _normed("backbone.first", "layer0.forward_block.0", "layer0.forward_block.1", "OIHW")
    for stage, block, has_projection in _blocks(channels, blocks):
        per_frame = stage == 0 or mode == "2d"
        theirs = f"layer{stage + 1}.forward_block.{block}" if per_frame else f"layer{stage + 1}.{block}"
        if per_frame or mode == "3d":
            table |= _basic_block(stage, block, theirs, has_projection, "OIHW" if per_frame else "OIDHW")
        else:
            table |= _pseudo_3d_block(stage, block, theirs, has_projection)
    return table | _neck("FCs")


def _blocks(channels: tuple, blocks: tuple) -> list:
    """(stage, block, whether its shortcut is a projection) of all residual blocks."""
    before = (channels[0], *channels)
    changes = [stage in (1, 2) or before[stage] != channels[stage] for stage in range(len(channels))]
    return [
        (stage, block, block == 0 and changes[stage]) for stage, count in enumerate(blocks) for block in range(count)
    ]


def _basic_block(stage: int, block: int, theirs: str, has_projection: bool, axes: str) -> Table:
    ours = f"backbone.stages.{stage}.{block}"
    return {
        **_normed(f"{ours}.first", f"{theirs}.conv1", f"{theirs}.bn1", axes),
        **_normed(f"{ours}.second", f"{theirs}.conv2", f"{theirs}.bn2", axes),
        **(_projection(ours, theirs, axes) if has_projection else {}),
    }


def _pseudo_3d_block(stage: int, block: int, theirs: str, has_projection: bool) -> Table:
    ours = f"backbone.stages.{stage}.{block}"
    first, second = f"{theirs}.conv1.forward_block", f"{theirs}.conv2.forward_block"
    return {
        **_normed(f"{ours}.first", f"{first}.0", f"{first}.1", "OIHW"),
        **_normed(f"{ours}.temporal", f"{theirs}.shortcut3d", f"{theirs}.sbn", "OIDHW"),
        **_normed(f"{ours}.second", f"{second}.0", f"{second}.1", "OIHW"),
        **(_projection(ours, theirs, "OIDHW") if has_projection else {}),
    }


def _projection(ours: str, theirs: str, axes: str) -> Table:
    return _normed(f"{ours}.projection", f"{theirs}.downsample.0", f"{theirs}.downsample.1", axes)


def _normed(ours: str, convolution: str, norm: str, axes: str) -> Table:
    return {f"{ours}.convolution.kernel": (f"{convolution}.weight", axes), **_norm(f"{ours}.norm", norm)}


def _norm(ours: str, theirs: str) -> Table:
    names = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    return {f"{ours}.{leaf}": (f"{theirs}.{name}", "C") for leaf, name in names.items()}


def _neck(linear: str) -> Table:
    return {
        "neck.head.kernel": (f"{linear}.fc_bin", "PIO"),
        **_norm("neck.norm", "BNNecks.bn1d"),
        "neck.classifier.kernel": ("BNNecks.fc_bin", "PIO"),
    }


BNNECK = {**_norm("norm", "BNNecks.bn1d"), "classifier.kernel": ("BNNecks.fc_bin", "PIO")}
WIDTHS, BLOCKS = (64, 128, 256, 512), (1, 1, 1, 1)  # where a config does not name them
TABLES: dict[str, Callable[[Mapping[str, Any]], Table]] = {
    "baseline": lambda config: baseline_table(len(config.get("channels", (0,) * 3))),
    "gaitset": lambda config: GAITSET,
    "gaitpart": lambda config: gaitpart_table(len(config.get("channels", (0,) * 3))),
    "gaitgl": lambda config: gaitgl_table(config.get("depth", 1), config.get("neck", False)),
    "gln": lambda config: GLN_PHASE_2 if config.get("compact") else GLN_PHASE_1,
    "gaitbase": lambda config: gaitbase_table(config.get("channels", WIDTHS), config.get("blocks", BLOCKS)),
    "deepgaitv2": lambda config: deepgaitv2_table(
        config.get("channels", WIDTHS), config.get("blocks", BLOCKS), config.get("mode", "p3d")
    ),
}
NETWORKS = tuple(TABLES)
WITHOUT_CLASSIFIER = ("gaitset", "gaitpart", "gln")  # as published


def key_table(model_config: Mapping[str, Any] | ConfigDict) -> Table:
    """Return the table of names of a network: ours -> (theirs, the letters of their axes).

    An optional classifier (ours) has the names of Baseline's.
    """
    table = TABLES[model_config["name"]](model_config)
    has_bnneck = model_config["name"] in WITHOUT_CLASSIFIER and not model_config.get("compact")
    return table | BNNECK if has_bnneck and model_config.get("num_classes") else table


def is_original_gaitset(keys: Iterable[str]) -> bool:
    """Whether these are names of the original GaitSet release."""
    return any(key.startswith("set_layer") for key in keys)
