"""The recipe of each shipped network: data, loss, optimiser, schedule, and the card of the result.

Training runs in a folder with ``last.ckpt`` to resume from, ``best.ckpt``, ``log`` and ``loss.png``: the two stages of
the paper's networks in ``tied`` and ``free``, the networks that are joined to a classifier in ``member-0`` and so on.
The final weights are ``<network>.safetensors``.
"""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import pytorch_lightning as pl
import torch
from astropy.table import Table, vstack
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from napari_almadet import __version__
from napari_almadet.evaluation.matching import Rate, match
from napari_almadet.networks import weights
from napari_almadet.networks.blobs_finder import FIELD, BlobsFinder
from napari_almadet.networks.deep_gru import DeepGRU
from napari_almadet.networks.extent_classifier import ExtentClassifier
from napari_almadet.networks.judge import Classifier, Judge, joined
from napari_almadet.networks.line_finder import LineFinder
from napari_almadet.networks.source_finder import SourceFinder, from_all_sides
from napari_almadet.paper.blobs import find_blobs
from napari_almadet.training.data import FieldSet, Images, Shown, Spectra
from napari_almadet.training.extents import Patches, write_extents
from napari_almadet.training.fields import Fields, write_set
from napari_almadet.training.judging import Candidates, calibrate, write_candidates
from napari_almadet.training.losses import centre_loss, image_loss, weighted_cross_entropy
from napari_almadet.training.noisy_lines import LineSpectra

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    fields, validation_fields
        Number of fields simulated for training and for validation, from disjoint seeds.
    observations
        Number of different observations of the training fields.
    epochs, patience
        Maximum number of epochs, and number of epochs without improvement of the validation loss that ends the
        training.
    rate
        Maximum learning rate, between a rise and a fall.
    start
        Weights to start from, a shipped name or a path; for Source Finder, Line Finder and Blobs Finder only.
    members
        Number of networks that are trained from different seeds and joined, for Judge and the extent classifier only.
    jobs, workers
        Number of processes that simulate fields (default: one per core), and that prepare batches.
    """

    fields: int = 3200
    validation_fields: int = 240
    observations: int = 40
    epochs: int = 20
    patience: int = 8
    batch_size: int = 128
    rate: float = 3e-3
    start: str | None = None
    weight_decay: float = 1e-5
    seed: int = 1
    members: int = 1
    jobs: int | None = None
    workers: int = 0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"


# Not in bfloat16: without instructions for it, a core takes five times as long.
BLOBS_FINDER = Recipe(epochs=15, batch_size=16)
DEEP_GRU = Recipe()
SOURCE_FINDER = Recipe(fields=9600, validation_fields=480, epochs=10, batch_size=16, seed=2, precision="bf16-mixed")
LINE_FINDER = Recipe(fields=20_000, validation_fields=3000, epochs=8, precision="bf16-mixed")
JUDGE = Recipe(fields=6400, validation_fields=800, epochs=30, patience=6, batch_size=128, members=5)
EXTENT = Recipe(
    fields=2800,
    validation_fields=1440,
    epochs=60,
    patience=15,
    batch_size=128,
    weight_decay=0.3,
    rate=3e-3,
    seed=3,
    members=5,
)

STACKED = "{fields} fields ({validation_fields} for validation) from napari_almadet.training.data"
NAMES = {
    BlobsFinder: "blobs_finder",
    DeepGRU: "deep_gru",
    SourceFinder: "source_finder",
    LineFinder: "line_finder",
    Judge: "judge",
    ExtentClassifier: "extent_classifier",
}


class TiedBlobsFinder(nn.Module):
    """Blobs Finder with its fully connected layers restricted to convolutions, the same at all positions.

    Trained directly, the fully connected layers would have to learn each position separately, from the few sources
    there.  After training in this form they are converted (:meth:`untied`), and the second stage trains all weights.
    """

    def __init__(self, network: BlobsFinder):
        super().__init__()
        channels, side, _ = network.grid
        self.network = network
        self.latent_grid = (network.config["latent"] // side**2, side, side)
        self.to_latent = nn.Conv2d(channels, self.latent_grid[0], kernel_size=3, padding=1)
        self.from_latent = nn.Conv2d(self.latent_grid[0], channels, kernel_size=3, padding=1)
        # The dense layers of the network are not used in this stage.
        network.to_latent.requires_grad_(False)
        network.from_latent.requires_grad_(False)

    @classmethod
    @torch.no_grad()
    def starting_from(cls, trained: BlobsFinder) -> TiedBlobsFinder:
        """A trained network, its fully connected layers averaged over the positions and tied again."""
        tied = cls(trained)
        features, latent = trained.grid, tied.latent_grid
        for convolution, dense, inputs, outputs in (
            (tied.to_latent, trained.to_latent, features, latent),
            (tied.from_latent, trained.from_latent, latent, features),
        ):
            convolution.weight[:], bias = averaged(dense, inputs, outputs)
            assert convolution.bias is not None
            convolution.bias[:] = bias
        return tied

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Same as the network's."""
        code = self.to_latent(self.network.encoder(image))
        return self.network.head(self.network.decoder(self.from_latent(code)))

    def untied(self) -> BlobsFinder:
        """The network, its fully connected layers set to the very same linear maps."""
        write_out(lambda x: self.to_latent(x.unflatten(1, self.network.grid)), self.network.to_latent)
        write_out(lambda x: self.from_latent(x.unflatten(1, self.latent_grid)), self.network.from_latent)
        return self.network


def averaged(
    dense: nn.Linear, inputs: tuple[int, int, int], outputs: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and bias of the convolution of 3 x 3 cells that a fully connected layer is on average over its cells.

    ``inputs`` and ``outputs`` are shapes (channels, side, side).
    """
    weights, side = dense.weight.view(*outputs, *inputs), inputs[1]
    kernel = torch.zeros(outputs[0], inputs[0], 3, 3)
    for dy, dx in np.ndindex(3, 3):
        y, x = (torch.arange(max(0, 1 - d), min(side, side + 1 - d)) for d in (dy, dx))
        # [cells, outputs, inputs]: indices that are not adjacent come first
        kernel[:, :, dy, dx] = weights[:, y[:, None], x, :, y[:, None] + dy - 1, x + dx - 1].mean(dim=(0, 1))
    return kernel, dense.bias.view(outputs[0], -1).mean(dim=1)


class TiedDeepGRU(nn.Module):
    """Deep GRU with its fully connected layer tied into a convolution along the channels.

    Trained directly, the 8192 weights of each output would saturate the sigmoid at once.
    """

    def __init__(self, network: DeepGRU):
        super().__init__()
        self.network = network
        self.head = nn.Conv1d(2 * network.config["hidden"], 1, kernel_size=5, padding=2)
        network.head.requires_grad_(False)

    def forward(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Same as the network's."""
        return torch.sigmoid(self.head(self.network.states(spectrum).mT)[:, 0])

    def untied(self) -> DeepGRU:
        """The network, its fully connected layer set to the very same linear map."""
        dense = self.network.head[0]
        assert isinstance(dense, nn.Linear)
        write_out(lambda x: self.head(x.unflatten(1, (dense.out_features, -1)).mT), dense)
        return self.network


@torch.no_grad()
def write_out(linear: Callable[[torch.Tensor], torch.Tensor], dense: nn.Linear) -> None:
    """Set a fully connected layer to a linear map of (batch, inputs) tensors, and enable its training."""
    dense.bias.copy_(linear(torch.zeros(1, dense.in_features)).flatten())
    for first in range(0, dense.in_features, 512):  # a block of unit vectors at a time
        unit = torch.eye(dense.in_features)[first : first + 512]
        dense.weight[:, first : first + 512] = (linear(unit).flatten(1) - dense.bias).T
    dense.requires_grad_(True)


class Trainee(pl.LightningModule):
    """A network, its loss, its optimiser and schedule."""

    def __init__(self, network: nn.Module, loss: Callable, recipe: Recipe):
        super().__init__()
        self.network, self.loss, self.recipe = network, loss, recipe

    def _loss(self, batch: Sequence[torch.Tensor]) -> torch.Tensor:
        prediction = self.network(batch[0])
        with torch.autocast(self.device.type, enabled=False):  # variances need full precision
            return self.loss(prediction.float(), batch[1])

    def training_step(self, batch: Sequence[torch.Tensor], _: int) -> torch.Tensor:
        """Loss of a batch."""
        loss = self._loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Sequence[torch.Tensor], _: int) -> None:
        """Loss of a batch of the validation set."""
        self.log("validation_loss", self._loss(batch), prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, with a learning rate that rises over the first fifth of the training and then falls to zero."""
        steps = int(self.trainer.estimated_stepping_batches)
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        adam = torch.optim.AdamW(parameters, lr=self.recipe.rate, weight_decay=self.recipe.weight_decay)
        # Not torch's OneCycleLR: its checkpoint holds the number of steps, so a resumed training could not be longer.
        schedule = torch.optim.lr_scheduler.LambdaLR(
            adam,
            lambda step: min(
                (step + 1) / (0.2 * steps), 0.5 + 0.5 * math.cos(math.pi * max(0, step / steps - 0.2) / 0.8)
            ),
        )
        return {"optimizer": adam, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(network: nn.Module, loss: Callable, data: tuple[Shown, Shown], recipe: Recipe, folder: Path) -> dict:
    """Train a network in ``folder``, from ``last.ckpt`` if it exists; the network ends with its best weights.

    Returns
    -------
    dict
        Number of ``epochs`` and the best ``validation_loss``.
    """
    pl.seed_everything(recipe.seed, workers=True, verbose=False)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = pl.Trainer(
        max_epochs=recipe.epochs,
        precision=recipe.precision,
        callbacks=[
            ModelCheckpoint(folder, "best", monitor="validation_loss", enable_version_counter=False),
            ModelCheckpoint(folder, "last", enable_version_counter=False),
            EarlyStopping("validation_loss", patience=recipe.patience),
        ],
        logger=CSVLogger(folder, name="log"),
        enable_model_summary=False,
        gradient_clip_val=1.0,
    )
    trainee = Trainee(network, loss, recipe)
    training, validation = (
        DataLoader(
            part,
            batch_size=min(recipe.batch_size, len(part)),  # incomplete batches are dropped
            shuffle=part.augment,
            drop_last=part.augment,
            num_workers=recipe.workers,
            persistent_workers=recipe.workers > 0,
        )
        for part in data
    )
    last = folder / "last.ckpt"
    trainer.fit(trainee, training, validation, ckpt_path=last if last.is_file() else None, weights_only=True)
    epochs = trainer.current_epoch
    best = trainer.validate(trainee, validation, ckpt_path=folder / "best.ckpt", weights_only=True, verbose=False)
    plot_losses(folder)
    return {"epochs": epochs, **best[0]}


def channels_last(network: Network) -> Network:
    """A network whose weights are stored with the channels last, which is faster on a GPU."""
    to: Callable[..., Network] = network.to  # torch's annotations leave this argument out
    return to(memory_format=torch.channels_last)


def simulate_data(recipe: Recipe, progress: Callable | None = None) -> tuple[FieldSet, FieldSet]:
    """Training and validation fields of a recipe."""
    n = recipe.observations
    training = FieldSet.simulate(recipe.fields, 2 * recipe.seed, n, jobs=recipe.jobs, progress=progress)
    seed = 2 * recipe.seed + 1
    return training, FieldSet.simulate(recipe.validation_fields, seed, max(2, n // 4), jobs=recipe.jobs)


def train_blobs_finder(folder: Path, recipe: Recipe = BLOBS_FINDER, progress: Callable | None = None) -> Path:
    """Train Blobs Finder; returns the weights' file."""
    started = time.time()
    fields = simulate_data(recipe, progress)
    data = Images(fields[0], recipe.seed), Images(fields[1], recipe.seed, augment=False)
    trained, began = begin(BlobsFinder, recipe)
    tied = TiedBlobsFinder.starting_from(trained) if began else TiedBlobsFinder(trained)
    network, scores = fit_in_two_stages(channels_last(tied), (image_loss, image_loss), data, recipe, folder)
    return finish(network, folder, recipe, began | scores | blob_scores(network, data[1]), started, STACKED)


def train_deep_gru(folder: Path, recipe: Recipe = DEEP_GRU, progress: Callable | None = None) -> Path:
    """Train Deep GRU; returns the weights' file."""
    started = time.time()
    fields = simulate_data(recipe, progress)
    data = Spectra(fields[0], recipe.seed), Spectra(fields[1], recipe.seed, augment=False)
    # With l1 alone the output stays "no line", which is right for nine channels in ten.
    losses = F.binary_cross_entropy, F.l1_loss
    network, scores = fit_in_two_stages(TiedDeepGRU(DeepGRU()), losses, data, recipe, folder)
    return finish(network, folder, recipe, scores | line_scores(network, data[1]), started, STACKED)


def train_source_finder(folder: Path, recipe: Recipe = SOURCE_FINDER, progress: Callable | None = None) -> Path:
    """Train Source Finder; returns the weights' file."""
    started = time.time()
    network, began = begin(SourceFinder, recipe)
    write_set(folder / "fields", recipe.fields, "train", recipe.seed, recipe.jobs, progress)
    write_set(folder / "fields", recipe.validation_fields, "validation", recipe.seed, recipe.jobs)
    data = (
        Fields(folder / "fields", "train", recipe.seed),
        Fields(folder / "fields", "validation", recipe.seed, augment=False),
    )
    scores = began | fit(channels_last(network), centre_loss, data, recipe, folder)
    # with test-time augmentation as in the pipeline
    from_sides = validation_loss(network.eval(), centre_loss, data[1], recipe.batch_size, from_all_sides)
    scores["validation_loss from all sides"] = from_sides
    about = "{fields} fields in noise units ({validation_fields} for validation) from napari_almadet.training.fields"
    return finish(network, folder, recipe, scores, started, about)


def train_line_finder(folder: Path, recipe: Recipe = LINE_FINDER, progress: Callable | None = None) -> Path:
    """Train Line Finder; returns the weights' file."""
    started = time.time()
    data = (
        LineSpectra(recipe.fields, recipe.seed),
        LineSpectra(recipe.validation_fields, recipe.seed + 1, augment=False),
    )
    network, began = begin(LineFinder, recipe)
    scores = began | fit(network, F.binary_cross_entropy, data, recipe, folder)
    about = "{fields} spectra an epoch ({validation_fields} for validation) from napari_almadet.training.noisy_lines"
    return finish(network, folder, recipe, scores | line_scores(network, data[1]), started, about)


def train_judge(
    folder: Path,
    recipe: Recipe = JUDGE,
    progress: Callable | None = None,
    networks: tuple[str, str] = ("source_finder", "line_finder"),
) -> Path:
    """Train Judge on detections of the other two networks of the preset; returns the weights' file.

    ``networks`` are the weights of Source Finder and Line Finder, shipped ones by name or files by path.
    """
    started = time.time()
    folder.mkdir(parents=True, exist_ok=True)
    numbers = (("train", recipe.fields, progress), ("validation", recipe.validation_fields, None))
    data, validation = (
        Candidates(
            write_candidates(folder / f"{which}.npz", n, which, recipe.seed, networks, recipe.jobs, report),
            augment=which == "train",
        )
        for which, n, report in numbers
    )
    scatter = data.measures.std(axis=0)
    loss = F.binary_cross_entropy_with_logits
    network, scores = fit_members(Judge, scatter, loss, (data, validation), recipe, folder)
    calibrate(network, validation)
    about = (
        "candidates in {fields} fields ({validation_fields} for validation and calibration) from "
        "napari_almadet.training.judging"
    )
    return finish(network, folder, recipe, scores, started, about)


def train_extent(
    folder: Path,
    recipe: Recipe = EXTENT,
    progress: Callable | None = None,
    networks: tuple[str, str, str] = ("source_finder", "line_finder", "judge"),
) -> Path:
    """Train the extent classifier on patches from the other networks of the preset; returns the weights' file.

    ``networks`` are the weights of Source Finder, Line Finder and Judge, shipped ones by name or files by path.
    """
    started = time.time()
    patches = folder / "patches"
    write_extents(patches, recipe.fields, "train", recipe.seed, networks, recipe.jobs, progress)
    write_extents(patches, recipe.validation_fields, "validation", recipe.seed, networks, recipe.jobs)
    data = Patches(patches, "train", recipe.seed), Patches(patches, "validation", recipe.seed, augment=False)
    network, scores = fit_members(ExtentClassifier, data[0].scatter, weighted_cross_entropy, data, recipe, folder)
    calibrate(network, data[1])
    about = (
        f"{len(data[0])} patches of emission in {{fields}} fields ({len(data[1])} in {{validation_fields}} for "
        "validation and calibration) from napari_almadet.training.extents"
    )
    return finish(network, folder, recipe, scores | patch_scores(network, data[1]), started, about)


def fit_members(
    kind: type[Classifier],
    scatter: np.ndarray,
    loss: Callable,
    data: tuple[Candidates, Candidates] | tuple[Patches, Patches],
    recipe: Recipe,
    folder: Path,
) -> tuple[Classifier, dict]:
    """Train several classifiers from different seeds, each in a folder of its own, and join them.

    ``scatter`` (features,) is that of the input values, which are scaled by it.
    """
    members, scores = [], []
    for number in range(recipe.members):
        seed = recipe.seed + number
        torch.manual_seed(seed)
        network = kind(len(scatter))
        network.mean.copy_(torch.from_numpy(data[0].measures.mean(axis=0)))
        network.scale.copy_(torch.from_numpy(scatter.clip(1e-3)))
        scores.append(fit(network, loss, data, replace(recipe, seed=seed), folder / f"member-{number}"))
        members.append(network)
    every = {name: [one[name] for one in scores] for name in scores[0]}
    network = joined(members).eval()
    return network, every | {"validation_loss, joined": validation_loss(network, loss, data[1], recipe.batch_size)}


@torch.no_grad()
def validation_loss(
    network: nn.Module, loss: Callable, data: Shown, batch_size: int, ask: Callable = nn.Module.__call__
) -> float:
    """Mean loss of a network's answers; ``ask`` gives them, for the network and a batch."""
    losses = [len(seen) * float(loss(ask(network, seen), wanted)) for seen, wanted in DataLoader(data, batch_size)]
    return sum(losses) / len(data)


@torch.no_grad()
def patch_scores(network: nn.Module, patches: Patches, threshold: float = 0.75) -> dict:
    """Fraction of real patches that are probable (completeness), and of probable ones that are real (purity)."""
    network.eval()
    probable = torch.sigmoid(network(torch.from_numpy(patches.measures))).numpy() >= threshold
    real = patches.true > 0
    hits = int((probable & real).sum())
    return {
        f"completeness at {threshold:g}": str(Rate(hits, int(real.sum()))),
        f"purity at {threshold:g}": str(Rate(hits, int(probable.sum()))),
    }


def begin(kind: type[Network], recipe: Recipe) -> tuple[Network, dict]:
    """The network to train, new or from ``recipe.start``, and the text about that start for the card.

    Raises
    ------
    ValueError
        If there are no such weights, or they belong to another network.
    """
    if not recipe.start:
        return kind(), {}
    network, card = weights.load(recipe.start)
    if type(network) is not kind:
        raise ValueError(f"{recipe.start} holds weights of {card['network']}, not of {kind.__name__}")
    return network.train(), {"started from": {key: card.get(key) for key in ("sha256", "commit", "data")}}


def fit_in_two_stages(
    tied: TiedBlobsFinder | TiedDeepGRU,
    losses: tuple[Callable, Callable],
    data: tuple[Shown, Shown],
    recipe: Recipe,
    folder: Path,
) -> tuple[nn.Module, dict]:
    """Train with tied, then with free fully connected layers, each with its loss; returns network and scores."""
    scores = {"tied": fit(tied, losses[0], data, recipe, folder / "tied")}
    # A hundredth of the rate: the free layers have a thousand times the weights of the tied ones.
    free = replace(recipe, epochs=max(1, recipe.epochs // 4), rate=recipe.rate / 100)
    network = tied.untied()
    scores["free"] = fit(network, losses[1], data, free, folder / "free")
    return network.float(), scores


@torch.no_grad()
def line_scores(network: nn.Module, spectra: Spectra | LineSpectra, height: float = 0.1) -> dict:
    """Fraction of validation spectra with the maximum output on a line, and of those without a line with low output."""
    network.eval()
    on_line = with_line = quiet = without = 0
    for dirty, denoised in DataLoader(spectra, batch_size=256):
        answer = network(dirty)
        best, where = answer.max(dim=1)
        has_line = denoised.amax(dim=1) > 0.5
        hit = (best >= height) & (denoised.gather(1, where[:, None])[:, 0] > 0.1)
        with_line, on_line = with_line + int(has_line.sum()), on_line + int((hit & has_line).sum())
        empty = denoised.amax(dim=1) == 0
        without, quiet = without + int(empty.sum()), quiet + int((empty & (best < height)).sum())
    return {"line found": str(Rate(on_line, with_line)), "no line, none found": str(Rate(quiet, without))}


@torch.no_grad()
def blob_scores(network: nn.Module, images: Images, threshold: float = 0.1) -> dict:
    """Completeness (all sources, and those of SNR 5 or more) and purity of the blobs in validation images.

    Matched one to one within 3 pixels between true positions and centres of blobs; images have the random brightness
    and blank borders of training.
    """
    found = matched = true = bright = bright_matched = 0
    network.eval()
    for index, field in enumerate(images.fields.fields):
        image, target = images[index]
        blobs = find_blobs(network(image[None])[0, 0].numpy(), threshold)
        centres = np.array([blob.box.centre[::-1] for blob in blobs]).reshape(-1, 2)
        x, y = np.rint(field.sources[:, :2]).astype(int).T.clip(0, FIELD - 1)
        shown = field.sources[target[0].numpy()[y, x] > 0.5]
        pairs = match(shown[:, :2], centres)
        found, matched, true = found + len(centres), matched + len(pairs), true + len(shown)
        bright += int((shown[:, 2] >= 5).sum())
        bright_matched += int((shown[pairs[:, 0], 2] >= 5).sum())
    return {
        "completeness": str(Rate(matched, true)),
        "completeness, SNR >= 5": str(Rate(bright_matched, bright)),
        "purity": str(Rate(matched, found)),
    }


def finish(network: nn.Module, folder: Path, recipe: Recipe, scores: dict, started: float, data: str) -> Path:
    """Write the weights with their card; ``data`` describes the training data, with placeholders for numbers."""
    path = folder / f"{NAMES[type(network)]}.safetensors"
    card = {
        "data": data.format(**asdict(recipe)),
        "recipe": asdict(recipe),
        "version": __version__,
        "commit": commit(),
        "minutes": round((time.time() - started) / 60, 1),
        "scores": scores,
    }
    weights.save(network, path, card)
    return path


def _git(*arguments: str) -> str:
    where = Path(__file__).parent
    return subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=True).stdout


def commit() -> str:
    """The git commit of the package, with a "+" for uncommitted changes; "unknown" outside a checkout."""
    try:
        head = _git("rev-parse", "--short", "HEAD").strip()
        changed = _git("status", "--porcelain", "--untracked-files=no", ".")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed.strip() else "")


def plot_losses(folder: Path) -> None:
    """Plot the log of all runs of the training as ``loss.png``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    logs = sorted(folder.glob("log/version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    metrics = vstack([Table.read(path, format="ascii.csv") for path in logs])
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name in ("train_loss", "validation_loss"):
        known = ~np.ma.getmaskarray(metrics[name])
        axes.plot(metrics["epoch"][known], metrics[name][known], label=name.replace("_", " "))
    axes.set(xlabel="epoch", ylabel="loss", yscale="log")
    axes.legend()
    figure.savefig(folder / "loss.png", dpi=120)
