"""The model config that the shapes of a PyTorch checkpoint tell."""

from gil_jax import torch_keys

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
    """Infer the model config {"name": ..., fields} from the shapes of a state dict; `overrides` are not changed.

    shapes: name -> shape. Widths, features, classes, bins, depth, blocks, mode and phase are read; the strips are the
    published ones for the depth. A field whose array is missing keeps the constructor's default.
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
    original = torch_keys.is_original_gaitset(shapes)
    names = [f"set_layer{i}.forward_block" if original else f"set_block{i // 2}.forward_block.2" for i in (2, 4, 6)]
    head = "fc_bin" if original else "Head.fc_bin"
    return {
        "channels": _widths(shapes, [f"{name}.conv.weight" for name in names]),
        "features": _size(shapes, head, 2),
        "num_classes": _size(shapes, "BNNecks.fc_bin", 2),
        "bins": _bins(shapes, head, maps=2),
    }


def _read_gaitpart(shapes: dict) -> dict:
    channels = _stage_widths(shapes)
    halvings = {3: (0, 2, 3), 4: (0, 0, 3, 3)}
    return {
        "channels": channels,
        "halvings": channels and halvings[len(channels)],
        "features": _size(shapes, "Head.fc_bin", 2),
        "num_classes": _size(shapes, "BNNecks.fc_bin", 2),
        "bins": _bins(shapes, "Head.fc_bin"),
    }


def _read_gaitgl(shapes: dict) -> dict:
    neck = "BNNecks.fc_bin" in shapes
    deep = any(key.startswith("GLConvA0.1.") for key in shapes)
    number = ".1" if deep else ""
    keys = [f"{stage}{number}.global_conv3d.conv3d.weight" for stage in ("GLConvA0", "GLConvA1", "GLConvB2")]
    return {
        "channels": _widths(shapes, ["conv3d.0.conv3d.weight", *keys]),
        "depth": 2 if deep else 1,
        "halvings": 1 if deep else 3,
        "features": _size(shapes, "Head0.fc_bin", 2),
        "bins": _bins(shapes, "Head0.fc_bin"),
        "neck": neck,
        "num_classes": _size(shapes, "BNNecks.fc_bin" if neck else "Head1.fc_bin", 2),
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
        "num_classes": _size(shapes, "reduce_cls.weight", 0) if compact else _size(shapes, "BNNecks.fc_bin", 2),
    }


def _read_residual(shapes: dict, stages: list, convolution: str) -> dict:
    """Fields of the networks of residual blocks; stages: the prefixes of their keys before the block's number."""
    return {
        "channels": _widths(shapes, [f"{stage}.0.{convolution}.weight" for stage in stages]),
        "blocks": tuple(
            len({key[len(stage) + 1 :].split(".")[0] for key in shapes if key.startswith(f"{stage}.")}) or 1
            for stage in stages
        ),
        "features": _size(shapes, "FCs.fc_bin", 2),
        "bins": _bins(shapes, "FCs.fc_bin"),
        "num_classes": _size(shapes, "BNNecks.fc_bin", 2),
    }


def _read_gaitbase(shapes: dict) -> dict:
    return _read_residual(shapes, [f"Backbone.forward_block.layer{stage}" for stage in (1, 2, 3, 4)], "conv2")


def _read_deepgaitv2(shapes: dict) -> dict:
    if "layer2.0.shortcut3d.weight" in shapes:
        mode, stage, convolution = "p3d", "layer{}", "conv2.forward_block.0"
    elif "layer2.0.conv1.weight" in shapes:
        mode, stage, convolution = "3d", "layer{}", "conv2"
    else:
        mode, stage, convolution = "2d", "layer{}.forward_block", "conv2"
    fields = _read_residual(shapes, [stage.format(number) for number in (2, 3, 4)], convolution)
    first = _read_residual(shapes, ["layer1.forward_block"], "conv2")
    return {
        **fields,
        "mode": mode,
        "channels": first["channels"] and fields["channels"] and first["channels"] + fields["channels"],
        "blocks": first["blocks"] + fields["blocks"],
    }


_READERS = {
    "baseline": _read_baseline,
    "gaitset": _read_gaitset,
    "gaitpart": _read_gaitpart,
    "gaitgl": _read_gaitgl,
    "gln": _read_gln,
    "gaitbase": _read_gaitbase,
    "deepgaitv2": _read_deepgaitv2,
}
