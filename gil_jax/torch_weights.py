"""State dicts of the PyTorch reference and our variables: one explicit table of names for every network."""

import numpy as np

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


def stages_table(prefix: str, convolutions: tuple) -> dict:
    """The blocks of Baseline and GaitPart, whose convolutions are numbered with the activations and poolings."""
    halves = ("first", "second")
    return {
        f"stages.{index // 2}.{halves[index % 2]}.kernel": (f"{prefix}.{number}.conv.weight", "OIHW")
        for index, number in enumerate(convolutions)
    }


def baseline_table(stages: int) -> dict:
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


# Their axes -> the order in which ours holds them.
AXES = {"OIHW": (2, 3, 1, 0), "OIDHW": (2, 3, 4, 1, 0), "PIO": (0, 1, 2), "OI": (1, 0), "C": (0,), "OIT": (2, 1, 0)}
STATISTICS = ("mean", "var", "fixed_bias")


def from_torch(state: dict, table: dict) -> tuple[dict, dict]:
    """(params, batch_stats) as nested dicts of numpy arrays from a state dict of numpy arrays."""
    params, batch_stats = {}, {}
    for path, (name, axes) in table.items():
        *modules, leaf = (int(step) if step.isdigit() else step for step in path.split("."))
        node = batch_stats if leaf in STATISTICS else params
        for module in modules:
            node = node.setdefault(module, {})
        node[leaf] = np.ascontiguousarray(read(state, name, axes))
    return params, batch_stats


def read(state: dict, name: str, axes: str):
    """One array in our order of axes; where the name has a {part}, the arrays of all parts stacked."""
    if "{part}" not in name:
        return np.transpose(state[name], AXES[axes])
    count = sum(name.format(part=part) in state for part in range(len(state)))
    return np.stack([np.transpose(state[name.format(part=part)], AXES[axes]) for part in range(count)])
