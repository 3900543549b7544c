"""All fields of a config, with their defaults and meanings. A config file changes what its row needs."""

from ml_collections import ConfigDict


def base_config() -> ConfigDict:
    """Build the fields of a run, without a network and a loss."""
    config = ConfigDict()
    config.seed = 0  # of initialisation, batches and dropout
    config.init_from = ""  # a workdir whose latest network the first step starts from
    # A key of gil_jax.models.MODELS, and its constructor's fields. num_classes=-1: the people of the split.
    # convolution="xla": without the CPU's special ways (gil_jax/ops/convolution.py), to debug.
    config.model = ConfigDict({"name": "", "convolution": "auto"})
    config.loss = ConfigDict()  # term -> fields, see configs/loss_recipes.py
    # Published rank-1 in percent: data set -> split -> probe set -> excluding identical views. "row" holds the network,
    # loss and augmentation that the numbers belong to; with any other they are not shown.
    config.expected = ConfigDict()

    config.data = ConfigDict()
    config.data.name = ""  # the data set's name under data.dir
    config.data.dir = ""  # where data sets are built; empty: $TFDS_DATA_DIR, or ~/tensorflow_datasets
    config.data.height = 64  # pixels, 64 or 128
    config.data.cache = ""  # "memmap": decode once into a flat file that all workers share
    config.data.protocol = "casia_b"  # a name of gil_jax/data/protocols.py, or a JSON file
    config.data.split = "lt"  # a published split, "first-N", or a JSON file {"train": [...], "test": [...]}
    config.data.subjects_per_batch = 8
    config.data.sequences_per_subject = 16
    config.data.frames = 30  # of a training sequence, or a pair (least, most) to draw from; evaluation sees all
    config.data.order = "unordered"  # or "ordered": a window of frames + skip consecutive ones, `frames` of them
    config.data.skip = 0
    # Augmentation of training sequences: "order", the names that are applied, one after the other, and their fields:
    # erase, dilate, flip, rotate, crop, perspective. Empty: none. See AUGMENTATION in configs/rows.py.
    config.data.augment = ConfigDict()
    config.data.workers = 2  # processes that read ahead; 0 reads in a thread

    config.optim = ConfigDict()
    config.optim.optimizer = "sgd"  # or "adam", "adamw"
    config.optim.learning_rate = 0.1
    config.optim.momentum = 0.9
    config.optim.weight_decay = 5e-4
    config.optim.accumulate = 1  # pieces that a batch is computed in, one after the other; a loss sees one piece
    config.optim.clip_norm = 0.0  # gradients are scaled down to this global norm; 0: not
    config.optim.frozen = ()  # parameters that are not trained, by the beginning of their name: ("backbone.conv1",)
    config.optim.average_decay = 0.0  # of a moving average of the parameters, which is evaluated then; 0: none
    config.optim.schedule = "steps"  # or "cosine", over total_steps
    config.optim.total_steps = 0  # 0: train.steps of the first start
    config.optim.decay_steps = ()  # schedule "steps": where the rate is multiplied by decay_factor
    config.optim.decay_factor = 0.1
    config.optim.min_learning_rate = 0.0  # schedule "cosine": where it ends
    config.optim.warmup_steps = 0  # linear, from warmup_rate
    config.optim.warmup_rate = 1e-6

    config.train = ConfigDict()
    config.train.steps = 0
    config.train.log_every = 100  # 0: only the last step; so for the next three
    config.train.checkpoint_every = 1000
    config.train.keep_checkpoints = 2  # the latest ones; the best evaluated one stays too
    config.train.best_metric = "eval/rank1"  # a name of metrics.jsonl: the highest is the best
    config.train.eval_every = 0
    config.train.skip_limit = 10  # steps in a row that are skipped as not finite before the training stops
    config.train.on_full_disk = "stop"  # or "continue": without the checkpoint that did not fit
    # Steps between pictures of a batch, augmented as the network gets it; the first step's is drawn too, and figures of
    # every evaluation: workdir/pictures/*.png, and images of TensorBoard. 0: none
    config.train.pictures_every = 0
    config.train.report = True  # the training ends with <workdir>/report.html, as `python -m gil_jax report` makes it
    config.train.profile = ()  # (first, last): steps that are profiled into workdir/profile
    # Weights & Biases (extra "wandb"). project: empty: off; name: of the run, empty: wandb makes one up;
    # mode: "online" or "offline", to be sent later by `wandb sync`
    config.train.wandb = ConfigDict({"project": "", "name": "", "mode": "online"})
    config.train.accept_changes = ()  # fields that may differ from the run that the workdir holds: ("optim.clip_norm",)

    config.eval = ConfigDict()
    config.eval.metric = "euclidean"  # or "cosine"
    config.eval.rerank = ()  # k-reciprocal re-ranking: (k1, k2, lambda), e.g. (6, 6, 0.3)
    config.eval.length_buckets = 4  # lengths that sequences are padded to at most; each is compiled once
    config.eval.frames_per_batch = 2048  # padded frames of a batch: a question of memory, not of results
    config.eval.frames_limit = 0  # frames of a sequence that are embedded, the first ones (OpenGait: 720); 0: all
    # Embeddings of the last evaluation are kept next to its report where they take less than this number of MiB.
    config.eval.keep_embeddings = 256

    config.sharding = ConfigDict()
    config.sharding.model_devices = 1  # devices that share one classifier's identities
    return config
