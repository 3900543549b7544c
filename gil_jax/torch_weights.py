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

# Their axes -> the order in which ours holds them.
AXES = {"OIHW": (2, 3, 1, 0), "OIDHW": (2, 3, 4, 1, 0), "PIO": (0, 1, 2), "OI": (1, 0), "C": (0,)}
TABLES = {"gaitset": GAITSET}
STATISTICS = ("mean", "var")


def from_torch(state: dict, table: dict) -> tuple[dict, dict]:
    """(params, batch_stats) as nested dicts of numpy arrays from a state dict of numpy arrays."""
    params, batch_stats = {}, {}
    for path, (name, axes) in table.items():
        *modules, leaf = path.split(".")
        node = batch_stats if leaf in STATISTICS else params
        for module in modules:
            node = node.setdefault(module, {})
        node[leaf] = np.ascontiguousarray(np.transpose(state[name], AXES[axes]))
    return params, batch_stats
