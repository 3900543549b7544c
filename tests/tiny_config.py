"""The synthetic config made tiny: for tests that go through the command line."""

from configs.synthetic_gaitset import get_config as synthetic_gaitset


def get_config():
    """Six people, two views, twelve steps."""
    config = synthetic_gaitset()
    config.synthetic.update({"subjects": 6, "views": ("000", "090"), "frames": (6, 12)})
    config.model.update({"channels": (2, 4, 4), "features": 8})
    config.data.update({"split": "first-5", "subjects_per_batch": 4, "sequences_per_subject": 2, "frames": 4})
    config.optim.update({"learning_rate": 0.05, "decay_steps": (6,)})
    config.train.update({"steps": 12, "log_every": 1, "checkpoint_every": 4, "report": False})
    config.eval.update({"frames_per_batch": 256, "length_buckets": 1})
    return config
