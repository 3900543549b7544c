"""The same networks from PyTorch's own layers, for comparison with ours, with the keys of the OpenGait family."""

import torch
from torch import nn
from torch.nn import functional as F


class Conv(nn.Module):
    """A convolution without bias under the name that the checkpoints give it."""

    def __init__(self, kind, channels, out, size, stride=1, padding=None):
        super().__init__()
        name = {2: "conv", 3: "conv3d", 1: "conv"}[kind]
        layer = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[kind]
        padding = (size // 2 if isinstance(size, int) else 0) if padding is None else padding
        self.name = name
        self.add_module(name, layer(channels, out, size, stride=stride, padding=padding, bias=False))

    def forward(self, x):
        return getattr(self, self.name)(x)


class Focal(Conv):
    """A convolution of strips of the height, each alone."""

    def __init__(self, channels, out, size, strips):
        super().__init__(2, channels, out, size)
        self.strips = strips

    def forward(self, x):
        if self.strips == 1:
            return super().forward(x)
        return torch.cat([super(Focal, self).forward(piece) for piece in x.chunk(self.strips, dim=2)], dim=2)


def leaky():
    return nn.LeakyReLU(0.01, inplace=True)


def pair(channels, out, size=3, pool=False, strips=1):
    layers = [Focal(channels, out, size, strips), leaky(), Focal(out, out, 3, strips), leaky()]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))


class PerFrame(nn.Module):
    """A network of pictures on [n, c, s, h, w]."""

    def __init__(self, block):
        super().__init__()
        self.forward_block = block

    def forward(self, x):
        n, c, s, h, w = x.shape
        x = self.forward_block(x.transpose(1, 2).reshape(n * s, c, h, w))
        return x.reshape(n, s, *x.shape[1:]).transpose(1, 2)


class Plain(nn.Module):
    """Stages of two convolutions, the first two with a pooling, numbered as the checkpoints do."""

    def __init__(self, channels, strips):
        super().__init__()
        layers = []
        for index, (before, out) in enumerate(zip((1, *channels), channels, strict=False)):
            layers += list(pair(before, out, 3 if index else 5, index < 2, strips[index]))
        self.feature = nn.Sequential(*layers)

    def forward(self, x):
        return self.feature(x)


class SeparateLinear(nn.Module):
    def __init__(self, parts, channels, features):
        super().__init__()
        self.fc_bin = nn.Parameter(nn.init.xavier_uniform_(torch.zeros(parts, channels, features)))

    def forward(self, x):  # [n, p, c]
        return (x.transpose(0, 1) @ self.fc_bin).transpose(0, 1)


def horizontal_pooling(x, bins=(16, 8, 4, 2, 1)):  # [n, c, h, w] -> [n, p, c]
    pieces = [x.reshape(*x.shape[:2], count, -1) for count in bins]
    return torch.cat([piece.mean(-1) + piece.max(-1)[0] for piece in pieces], -1).transpose(1, 2)


class BNNecks(nn.Module):
    def __init__(self, parts, features, classes):
        super().__init__()
        self.fc_bin = nn.Parameter(nn.init.xavier_uniform_(torch.zeros(parts, features, classes)))
        self.bn1d = nn.BatchNorm1d(parts * features)

    def forward(self, x):
        x = F.normalize(self.bn1d(x.reshape(len(x), -1)).reshape(x.shape), dim=-1)
        return (x.transpose(0, 1) @ F.normalize(self.fc_bin, dim=1)).transpose(0, 1)


class Baseline(nn.Module):
    def __init__(self, channels=(64, 128, 256), features=256, classes=74):
        super().__init__()
        self.Backbone = PerFrame(Plain(channels, (1,) * len(channels)))
        self.FCs = SeparateLinear(31, channels[-1], features)
        self.BNNecks = BNNecks(31, features, classes)

    def forward(self, silhouettes):
        x = self.Backbone(silhouettes[:, None]).max(2)[0]
        embeddings = self.FCs(horizontal_pooling(x))
        return embeddings, self.BNNecks(embeddings)


class GaitSet(nn.Module):
    def __init__(self, channels=(32, 64, 128), features=256, classes=0):
        super().__init__()
        a, b, c = channels
        self.set_block1 = PerFrame(pair(1, a, 5, pool=True))
        self.set_block2 = PerFrame(pair(a, b, pool=True))
        self.set_block3 = PerFrame(pair(b, c))
        self.gl_block2 = pair(a, b, pool=True)
        self.gl_block3 = pair(b, c)
        self.Head = SeparateLinear(62, c, features)

    def forward(self, silhouettes):
        x = self.set_block1(silhouettes[:, None])
        branch = self.gl_block2(x.max(2)[0])
        x = self.set_block2(x)
        branch = self.gl_block3(branch + x.max(2)[0])
        x = self.set_block3(x).max(2)[0]
        branch = branch + x
        return self.Head(torch.cat([horizontal_pooling(x), horizontal_pooling(branch)], 1)), None


class TemporalModule(nn.Module):
    def __init__(self, parts, channels):
        super().__init__()

        def attention(size):
            return nn.ModuleList(
                nn.Sequential(Conv(1, channels, channels // 4, 3), leaky(), Conv(1, channels // 4, channels, size))
                for _ in range(parts)
            )

        self.conv1d3x1, self.conv1d3x3 = attention(1), attention(3)

    def forward(self, x):  # [n, c, s, p]
        parts = x.unbind(-1)
        total = 0
        for modules, window in ((self.conv1d3x1, 3), (self.conv1d3x3, 5)):
            scores = torch.stack([module(part) for module, part in zip(modules, parts, strict=True)], -1).sigmoid()
            flat = x.transpose(2, 3).reshape(len(x), -1, x.shape[2])
            pooled = F.avg_pool1d(flat, window, 1, window // 2) + F.max_pool1d(flat, window, 1, window // 2)
            total = total + scores * pooled.reshape(*x.shape[:2], x.shape[3], -1).transpose(2, 3)
        return total.max(2)[0]


class PoolingFunc(nn.Module):
    def __init__(self, parts, channels):
        super().__init__()
        self.pooling_func = TemporalModule(parts, channels)


class GaitPart(nn.Module):
    def __init__(self, channels=(32, 64, 128), strips=(1, 4, 8), features=128, classes=0):
        super().__init__()
        self.Backbone = PerFrame(Plain(channels, strips))
        self.TFA = PoolingFunc(16, channels[-1])
        self.Head = SeparateLinear(16, channels[-1], features)

    def forward(self, silhouettes):
        x = self.Backbone(silhouettes[:, None])  # [n, c, s, h, w]
        x = x.reshape(*x.shape[:3], 16, -1)
        x = x.mean(-1) + x.max(-1)[0]
        return self.Head(self.TFA.pooling_func(x).transpose(1, 2)), None


class GLConv(nn.Module):
    def __init__(self, channels, out, strips, stacked=False):
        super().__init__()
        self.global_conv3d = Conv(3, channels, out, 3)
        self.local_conv3d = Conv(3, channels, out, 3)
        self.strips, self.stacked = strips, stacked

    def forward(self, x):
        whole = self.global_conv3d(x)
        local = torch.cat([self.local_conv3d(piece) for piece in x.chunk(self.strips, dim=3)], dim=3)
        if self.stacked:
            return F.leaky_relu(torch.cat([whole, local], dim=3))
        return F.leaky_relu(whole) + F.leaky_relu(local)


class GeM(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.ones(1) * 6.5)

    def forward(self, x, bins):  # [n, c, h, w] -> [n, p, c]
        x = x.reshape(*x.shape[:2], bins, -1).clamp(min=1e-6).pow(self.p)
        return x.mean(-1).pow(1 / self.p).transpose(1, 2)


class GaitGL(nn.Module):
    def __init__(self, channels=(32, 64, 128, 128), depth=1, halvings=3, features=128, classes=74):
        super().__init__()
        a, b, c, d = channels

        def stage(before, out, stacked=False):
            layers = [GLConv(out if i else before, out, 2**halvings, stacked and i == depth - 1) for i in range(depth)]
            return layers[0] if depth == 1 else nn.Sequential(*layers)

        first = [layer for i in range(depth) for layer in (Conv(3, a if i else 1, a, 3), leaky())]
        self.conv3d = nn.Sequential(*first)
        self.LTA = nn.Sequential(Conv(3, a, a, (3, 1, 1), stride=(3, 1, 1)), leaky())
        self.GLConvA0, self.GLConvA1, self.GLConvB2 = stage(a, b), stage(b, c), stage(c, d, True)
        self.HPP = GeM()
        self.Head0 = SeparateLinear(64, d, features)
        self.Bn = nn.BatchNorm1d(features)
        self.Head1 = SeparateLinear(64, features, classes)

    def forward(self, silhouettes):
        x = self.LTA(self.conv3d(silhouettes[:, None]))
        x = F.max_pool3d(self.GLConvA0(x), (1, 2, 2))
        x = self.GLConvB2(self.GLConvA1(x)).max(2)[0]
        embeddings = self.Head0(self.HPP(x, 64))
        embeddings = self.Bn(embeddings.transpose(1, 2)).transpose(1, 2)
        return embeddings, self.Head1(embeddings)


class GLN(nn.Module):
    def __init__(self, channels=(32, 64, 128), lateral=256, features=256, compact=None, classes=0, dropout=0.9):
        super().__init__()
        a, b, c = channels
        self.sil_stage_0, self.sil_stage_1 = PerFrame(pair(1, a, 5)), PerFrame(pair(a, b))
        self.sil_stage_2 = PerFrame(pair(b, c))
        self.set_stage_1, self.set_stage_2 = pair(a, b), pair(b, c)
        for i, width in enumerate(channels, start=1):
            self.add_module(f"lateral_layer{i}", nn.Conv2d(2 * width, lateral, 1, bias=False))
            self.add_module(f"smooth_layer{i}", nn.Conv2d(lateral, lateral, 3, padding=1, bias=False))
        self.Head = SeparateLinear(93, lateral, features)
        self.compact = compact
        if compact:
            self.encoder_bn, self.reduce_bn = nn.BatchNorm1d(93 * features), nn.BatchNorm1d(compact)
            self.encoder_bn.bias.requires_grad_(False)
            self.reduce_bn.bias.requires_grad_(False)
            self.reduce_dp = nn.Dropout(dropout)
            self.reduce_fc = nn.Linear(93 * features, compact, bias=False)
            self.reduce_cls = nn.Linear(compact, classes, bias=False)

    def forward(self, silhouettes):
        x0 = self.sil_stage_0(silhouettes[:, None])
        p0 = F.max_pool3d(x0, (1, 2, 2))
        x1 = self.sil_stage_1(p0)
        x2 = self.sil_stage_2(F.max_pool3d(x1, (1, 2, 2)))
        m0, m1, m2 = (x.max(2)[0] for x in (x0, x1, x2))
        s1 = self.set_stage_1(p0.max(2)[0]) + m1
        s2 = self.set_stage_2(F.max_pool2d(s1, 2)) + m2
        l3 = self.lateral_layer3(torch.cat([m2, s2], 1))
        l2 = F.interpolate(l3, scale_factor=2) + self.lateral_layer2(torch.cat([m1, s1], 1))
        l1 = F.interpolate(l2, scale_factor=2) + self.lateral_layer1(torch.cat([m0, m0], 1))
        levels = (self.smooth_layer1(l1), self.smooth_layer2(l2), self.smooth_layer3(l3))
        embeddings = self.Head(torch.cat([horizontal_pooling(level) for level in levels], 1))
        if not self.compact:
            return embeddings, None
        flat = self.encoder_bn(embeddings.reshape(len(embeddings), -1))
        reduced = self.reduce_bn(self.reduce_fc(F.relu(self.reduce_dp(flat))))
        return embeddings, self.reduce_cls(reduced)[:, None]


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut, of frames (dims 2) or of frames and time (dims 3)."""

    def __init__(self, channels, out, stride, dims=2):
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        steps = stride if dims == 2 else (1, stride, stride)
        self.conv1 = conv(channels, out, 3, steps, 1, bias=False)
        self.bn1 = norm(out)
        self.conv2 = conv(out, out, 3, 1, 1, bias=False)
        self.bn2 = norm(out)
        changes = stride > 1 or channels != out
        self.downsample = nn.Sequential(conv(channels, out, 1, steps, bias=False), norm(out)) if changes else None

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class PseudoResidualBlock(nn.Module):
    """Convolutions of every frame, and between them one over time."""

    def __init__(self, channels, out, stride):
        super().__init__()

        def per_frame(before, steps):
            return PerFrame(nn.Sequential(nn.Conv2d(before, out, 3, steps, 1, bias=False), nn.BatchNorm2d(out)))

        self.conv1, self.conv2 = per_frame(channels, stride), per_frame(out, 1)
        self.shortcut3d = nn.Conv3d(out, out, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.sbn = nn.BatchNorm3d(out)
        projection = nn.Conv3d(channels, out, 1, (1, stride, stride), bias=False)
        changes = stride > 1 or channels != out
        self.downsample = nn.Sequential(projection, nn.BatchNorm3d(out)) if changes else None

    def forward(self, x):
        y = F.relu(self.conv1(x))
        y = F.relu(y + self.sbn(self.shortcut3d(y)))
        return F.relu(self.conv2(y) + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, channels, blocks):
        super().__init__()
        self.conv1 = Conv(2, 1, channels[0], 3)
        self.bn1 = nn.BatchNorm2d(channels[0])
        before = channels[0]
        for index, (out, count, stride) in enumerate(zip(channels, blocks, (1, 2, 2, 1), strict=True), start=1):
            layers = [ResidualBlock(out if i else before, out, 1 if i else stride) for i in range(count)]
            self.add_module(f"layer{index}", nn.Sequential(*layers))
            before = out

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class GaitBase(nn.Module):
    def __init__(self, channels=(64, 128, 256, 512), blocks=(1, 1, 1, 1), features=256, classes=74):
        super().__init__()
        self.Backbone = PerFrame(ResNet(channels, blocks))
        self.FCs = SeparateLinear(16, channels[-1], features)
        self.BNNecks = BNNecks(16, features, classes)

    def forward(self, silhouettes):
        embeddings = self.FCs(horizontal_pooling(self.Backbone(silhouettes[:, None]).max(2)[0], (16,)))
        return embeddings, self.BNNecks(embeddings)


class DeepGaitV2(nn.Module):
    def __init__(self, channels=(64, 128, 256, 512), blocks=(1, 1, 1, 1), mode="p3d", features=256, classes=74):
        super().__init__()
        first = nn.Conv2d(1, channels[0], 3, 1, 1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU(inplace=True)
        self.layer0 = PerFrame(nn.Sequential(*first))
        block = {"2d": ResidualBlock, "3d": lambda *sizes: ResidualBlock(*sizes, dims=3), "p3d": PseudoResidualBlock}
        before = channels[0]
        for index, (out, count, stride) in enumerate(zip(channels, blocks, (1, 2, 2, 1), strict=True), start=1):
            make, is_flat = (ResidualBlock, True) if index == 1 else (block[mode], mode == "2d")
            layers = nn.Sequential(*[make(out if i else before, out, 1 if i else stride) for i in range(count)])
            self.add_module(f"layer{index}", PerFrame(layers) if is_flat else layers)
            before = out
        self.FCs = SeparateLinear(16, channels[-1], features)
        self.BNNecks = BNNecks(16, features, classes)

    def forward(self, silhouettes):
        x = self.layer1(self.layer0(silhouettes[:, None]))
        maps = self.layer4(self.layer3(self.layer2(x))).max(2)[0]
        embeddings = self.FCs(horizontal_pooling(maps, (16,)))
        return embeddings, self.BNNecks(embeddings)


NETWORKS = {
    "baseline": Baseline,
    "gaitset": GaitSet,
    "gaitpart": GaitPart,
    "gaitgl": GaitGL,
    "gln": GLN,
    "gaitbase": GaitBase,
    "deepgaitv2": DeepGaitV2,
}
