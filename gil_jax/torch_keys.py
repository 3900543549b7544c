"""The names of PyTorch checkpoints of the OpenGait family: one explicit table for every network, and what the shapes
of its arrays say about the network.
"""

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


def stages_table(prefix: str, convolutions: tuple) -> dict:
    """The blocks of Baseline and GaitPart, whose convolutions are numbered with the activations and poolings."""
    halves = ("first", "second")
    return {
        f"stages.{index // 2}.{halves[index % 2]}.kernel": (f"{prefix}.{number}.conv.weight", "OIHW")
        for index, number in enumerate(convolutions)
    }


def baseline_table(stages: int) -> dict:
    """Baseline with so many stages."""
    return {
        **stages_table("Backbone.forward_block.feature", (0, 2, 5, 7, 10, 12, 14, 16)[: 2 * stages]),
        "head.kernel": ("FCs.fc_bin", "PIO"),
        "norm.scale": ("BNNecks.bn1d.weight", "C"),
        "norm.bias": ("BNNecks.bn1d.bias", "C"),
        "norm.mean": ("BNNecks.bn1d.running_mean", "C"),
        "norm.var": ("BNNecks.bn1d.running_var", "C"),
        "classifier.kernel": ("BNNecks.fc_bin", "PIO"),
    }


def gaitpart_table(stages: int) -> dict:
    """GaitPart with so many stages; its parts are modules of their own there, one array here."""
    return {
        **stages_table("Backbone.forward_block.feature", (0, 2, 5, 7, 10, 12, 14, 16)[: 2 * stages]),
        "short.squeeze.kernel": ("TFA.pooling_func.conv1d3x1.{part}.0.conv.weight", "OIT"),
        "short.expand.kernel": ("TFA.pooling_func.conv1d3x1.{part}.2.conv.weight", "OIT"),
        "long.squeeze.kernel": ("TFA.pooling_func.conv1d3x3.{part}.0.conv.weight", "OIT"),
        "long.expand.kernel": ("TFA.pooling_func.conv1d3x3.{part}.2.conv.weight", "OIT"),
        "head.kernel": ("Head.fc_bin", "PIO"),
    }


def gaitgl_table(depth: int) -> dict:
    """The CASIA-B net has one layer a stage and no number in its keys, the OU-MVLP net two and a number."""
    layers = {}
    for index in range(depth):
        layers[f"first.{index}.kernel"] = (f"conv3d.{2 * index}.conv3d.weight", "OIDHW")
        number = f".{index}" if depth > 1 else ""
        for stage, theirs in (("before_pool", "GLConvA0"), ("after_pool", "GLConvA1"), ("last", "GLConvB2")):
            layers[f"{stage}.{index}.whole.kernel"] = (f"{theirs}{number}.global_conv3d.conv3d.weight", "OIDHW")
            layers[f"{stage}.{index}.local.kernel"] = (f"{theirs}{number}.local_conv3d.conv3d.weight", "OIDHW")
    return {
        **layers,
        "shorten.kernel": ("LTA.0.conv3d.weight", "OIDHW"),
        "mean.exponent": ("HPP.p", "C"),
        "head.kernel": ("Head0.fc_bin", "PIO"),
        "norm.scale": ("Bn.weight", "C"),
        "norm.bias": ("Bn.bias", "C"),
        "norm.mean": ("Bn.running_mean", "C"),
        "norm.var": ("Bn.running_var", "C"),
        "classifier.kernel": ("Head1.fc_bin", "PIO"),
    }


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


def key_table(model_config: dict) -> dict:
    """The table of names of a network: ours -> (theirs, the letters of their axes)."""
    name = model_config["name"]
    if name == "gaitset":
        return GAITSET
    if name == "gaitgl":
        return gaitgl_table(model_config.get("depth", 1))
    if name == "gln":
        return GLN_PHASE_2 if model_config.get("compact") else GLN_PHASE_1
    return {"baseline": baseline_table, "gaitpart": gaitpart_table}[name](len(model_config.get("channels", (0,) * 3)))


# Parts of one map -> the bins that make them.
BINS = {
    64: (64,),
    63: (32, 16, 8, 4, 2, 1),
    32: (32,),
    31: (16, 8, 4, 2, 1),
    16: (16,),
    15: (8, 4, 2, 1),
}


def infer_config(name: str, shapes: dict, overrides: dict) -> dict:
    """The model config {"name": ..., fields} that the shapes of a state dict tell; `overrides` are taken as they are.

    shapes: name -> shape. Widths, features, classes, bins, depth and phase are read; the cut into strips is the
    published one for the depth. What a missing array would tell stays at the constructor's default.
    """
    fields = {field: value for field, value in _READERS[name](shapes).items() if value is not None}
    return {"name": name, **fields, **overrides}


def _size(shapes: dict, key: str, axis: int):
    return shapes[key][axis] if len(shapes.get(key, ())) > axis else None


def _widths(shapes: dict, keys: list):
    widths = tuple(_size(shapes, key, 0) for key in keys)
    return None if None in widths else widths


def _bins(shapes: dict, key: str, maps: int = 1):
    parts = _size(shapes, key, 0)
    return None if parts is None else BINS.get(parts // maps)


def _stage_widths(shapes: dict):
    keys = [f"Backbone.forward_block.feature.{number}.conv.weight" for number in (2, 7, 12, 16)]
    return _widths(shapes, keys[:4] if keys[3] in shapes else keys[:3])


def _read_baseline(shapes: dict) -> dict:
    return {
        "channels": _stage_widths(shapes),
        "features": _size(shapes, "FCs.fc_bin", 2),
        "bins": _bins(shapes, "FCs.fc_bin"),
        "num_classes": _size(shapes, "BNNecks.fc_bin", 2),
    }


def _read_gaitset(shapes: dict) -> dict:
    original = is_original_gaitset(shapes)
    names = [f"set_layer{i}.forward_block" if original else f"set_block{i // 2}.forward_block.2" for i in (2, 4, 6)]
    head = "fc_bin" if original else "Head.fc_bin"
    return {
        "channels": _widths(shapes, [f"{name}.conv.weight" for name in names]),
        "features": _size(shapes, head, 2),
        "bins": _bins(shapes, head, maps=2),
    }


def _read_gaitpart(shapes: dict) -> dict:
    channels = _stage_widths(shapes)
    halvings = {3: (0, 2, 3), 4: (0, 0, 3, 3)}
    return {
        "channels": channels,
        "halvings": channels and halvings[len(channels)],
        "features": _size(shapes, "Head.fc_bin", 2),
        "bins": _bins(shapes, "Head.fc_bin"),
    }


def _read_gaitgl(shapes: dict) -> dict:
    deep = any(key.startswith("GLConvA0.1.") for key in shapes)
    number = ".1" if deep else ""
    keys = [f"{stage}{number}.global_conv3d.conv3d.weight" for stage in ("GLConvA0", "GLConvA1", "GLConvB2")]
    return {
        "channels": _widths(shapes, ["conv3d.0.conv3d.weight", *keys]),
        "depth": 2 if deep else 1,
        "halvings": 1 if deep else 3,
        "features": _size(shapes, "Head0.fc_bin", 2),
        "bins": _bins(shapes, "Head0.fc_bin"),
        "num_classes": _size(shapes, "Head1.fc_bin", 2),
    }


def _read_gln(shapes: dict) -> dict:
    compact = any(key.startswith(("encoder_bn.", "reduce_")) for key in shapes)
    return {
        "channels": _widths(shapes, [f"sil_stage_{i}.forward_block.2.conv.weight" for i in range(3)]),
        "lateral_channels": _size(shapes, "lateral_layer1.weight", 0),
        "features": _size(shapes, "Head.fc_bin", 2),
        "bins": _bins(shapes, "Head.fc_bin", maps=3),
        "compact": compact,
        "compact_features": _size(shapes, "reduce_fc.weight", 0),
        "num_classes": _size(shapes, "reduce_cls.weight", 0) if compact else None,
    }


_READERS = {
    "baseline": _read_baseline,
    "gaitset": _read_gaitset,
    "gaitpart": _read_gaitpart,
    "gaitgl": _read_gaitgl,
    "gln": _read_gln,
}


NETWORKS = tuple(_READERS)


def is_original_gaitset(keys) -> bool:
    """Whether these are names of the original GaitSet release."""
    return any(key.startswith("set_layer") for key in keys)
