"""PyTorch's side of the benchmarks of training, in a process of its own; not to be run by hand.

Reads one JSON object a line from standard input and answers each with one: ``setup`` makes the
network and takes its weights from an .npz, ``output`` applies it, ``step`` takes training steps and
says how long each took. On a GPU (``device`` of the setup) float32 is TF32, and ``dtype`` bfloat16
is PyTorch's autocast.
"""

import json
import sys
import time

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class Block(nn.Module):
    """Two 3 x 3 convolutions and the shortcut around them, as torchvision's BasicBlock."""

    def __init__(self, inputs: int, features: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(features)
        self.shortcut = None
        if stride > 1 or inputs != features:
            conv = nn.Conv2d(inputs, features, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(features))

    def forward(self, x):
        y = torch.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return torch.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nn.Module):
    """torchvision's ResNet-18 or -34 for one input channel."""

    def __init__(self, depth: int, outputs: int):
        super().__init__()
        self.stem = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks, inputs = [], 64
        for stage, count in enumerate(_STAGES[depth]):
            for index in range(count):
                features = 64 * 2**stage
                blocks.append(Block(inputs, features, 2 if stage and not index else 1))
                inputs = features
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, outputs)

    def forward(self, x):
        x = self.pool(torch.relu(self.norm(self.stem(x))))
        return self.head(self.blocks(x).mean((2, 3)))


class Side:
    """One network and its optimizer."""

    def __init__(self, request):
        torch.set_num_threads(request["threads"])
        self.device = torch.device(request.get("device", "cpu"))
        self.dtype = getattr(torch, request.get("dtype", "float32"))
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True  # the fastest algorithm for these shapes
        data = np.load(request["file"])
        self.network = ResNet(request["depth"], data["targets"].shape[1])
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                parameter.copy_(torch.from_numpy(data[name]))
        self.network = self.network.to(self.device, memory_format=torch.channels_last)
        pictures = torch.from_numpy(data["pictures"])[:, None]
        self.pictures = pictures.to(self.device, memory_format=torch.channels_last)
        self.targets = torch.from_numpy(data["targets"]).to(self.device)
        self.weights = torch.from_numpy(data["weights"]).to(self.device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-3, weight_decay=1e-4)

    def loss(self):
        is_half = self.dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=is_half):
            found = self.network(self.pictures)
        off = found.float() - self.targets
        return (self.weights * off**2).sum(1).mean()

    def output(self, request):
        self.network.train()
        loss = self.loss()
        loss.backward()
        gradients = [p.grad.norm().item() ** 2 for p in self.network.parameters()]
        return {"loss": loss.item(), "grad_norm": sum(gradients) ** 0.5}

    def step(self, request):
        times = []
        for _ in range(request["steps"]):
            start = time.perf_counter()
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self.optimizer.step()
            loss.item()
            times.append(time.perf_counter() - start)
        return {"times": times}


def main() -> None:
    side = None
    hello = {"version": torch.__version__, "cuda": torch.cuda.is_available()}
    print(json.dumps(hello), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "setup":
            side, answer = Side(request), {}
        else:
            answer = getattr(side, request["do"])(request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
