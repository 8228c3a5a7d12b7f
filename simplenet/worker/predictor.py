"""A verified model on its device: rows in, probabilities out."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from torch import nn

from simplenet.checkpoint import restore
from simplenet.checkpoint.file import read_checkpoint
from simplenet.checkpoint.keys import CLASSES, CONTENT_HASH, GOLDEN, METADATA
from simplenet.model_file import load_network
from simplenet.preprocessing import LOGITS, PLAIN, PROBABILITIES, InputSpec, output_of, probabilities
from simplenet.worker import exits
from simplenet.worker.failures import WrongOutputShapeError
from simplenet.worker.model_spec import ModelSpec

MANY_ROWS = 1024  # a larger batch is no faster
WARM_UP_ROWS = (1, 64)  # a lone request and a full batch

logger = logging.getLogger(__name__)


class Predictor:
    """Runs a network on batches of rows.

    Args:
        model: on `device`, in eval mode, already verified.
        spec: its input and output.
        device: the worker's.
        content_hash: of the weights.
        inputs: how rows become the network's input.
        output: what the network returns: one of `simplenet.preprocessing.OUTPUTS`.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: ModelSpec,
        device: torch.device,
        content_hash: str = "",
        inputs: InputSpec = PLAIN,
        output: str = LOGITS,
    ) -> None:
        self.model, self.spec, self.device, self.content_hash = model, spec, device, content_hash
        self.inputs, self.output = inputs, output
        self.dtype = next(model.parameters()).dtype
        # Chosen once: a network of flat rows and logits pays nothing for the others.
        self._run = self._predict_rows if inputs.is_plain and output == LOGITS else self._predict_prepared

    @classmethod
    def from_archive(cls, folder: str | Path, device: torch.device, settings: Mapping[str, Any]) -> "Predictor":
        """Rebuild, verify and warm up the model of an unpacked archive.

        Args:
            folder: where TorchServe unpacked the archive.
            device: the worker's.
            settings: the `handler` section of model-config.yaml; `model_class` names the user's own network.

        Raises:
            SimpleNetError: the archive is incomplete, or code and weights do not match.
        """
        root = Path(folder)
        manifest = orjson.loads((root / "MAR-INF" / "MANIFEST.json").read_bytes())["model"]
        network = None
        if model_file := manifest.get("modelFile"):
            network = load_network(root / model_file, settings.get("model_class", ""))
        file = root / manifest["serializedFile"]
        checkpoint = read_checkpoint(file, device, mapped=True)  # unpacked for this server alone
        model = restore(checkpoint, device, file.name, network)
        golden = checkpoint[GOLDEN]
        names = checkpoint.get(CLASSES) or range(golden["logits"].shape[1])
        inputs = InputSpec.from_checkpoint(checkpoint, file.name)
        spec = ModelSpec(golden["inputs"].shape[1], tuple(str(name) for name in names), inputs.shape)
        output = output_of(checkpoint, file.name)
        predictor = cls(model, spec, device, checkpoint[METADATA][CONTENT_HASH], inputs, output)
        predictor.warm_up()
        return predictor

    def predict(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The probabilities of the rows of several requests, one after another.

        Args:
            parts: one array `(n, input_size)` float32 per request; may be empty.

        Returns:
            `(all rows, num_classes)` float32.
        """
        predicted = [self.predict_together(group) for group in self.groups(parts)]
        return predicted[0] if len(predicted) == 1 else np.concatenate(predicted)

    def groups(self, parts: Sequence[np.ndarray]) -> list[Sequence[np.ndarray]]:
        """The requests that run together: all, or each alone if they are large, so that they need not be joined."""
        if len(parts) <= 1 or sum(map(len, parts)) <= MANY_ROWS:
            return [parts]
        return [[part] for part in parts]

    def predict_together(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The probabilities of the rows of several requests in one pass of the network.

        Args:
            parts: one array `(n, input_size)` float32 per request; may be empty. The network gets a copy, except of a
                single large one.

        Returns:
            `(all rows, num_classes)` float32.

        Raises:
            WrongOutputShapeError: the network's outputs have another shape.
        """
        if not parts:
            return np.empty((0, len(self.spec.classes)), np.float32)
        if len(parts) == 1 and len(parts[0]) > MANY_ROWS:
            rows = np.require(parts[0], requirements="W")
        else:
            rows = np.concatenate(parts)
        predicted = self._run(rows)
        exits.end_child()
        expected = (len(rows), len(self.spec.classes))
        if predicted.shape != expected:  # else the rows of one request would be given to its neighbour
            raise WrongOutputShapeError(expected, predicted.shape)
        return predicted

    def warm_up(self) -> None:
        """Predict batches of the usual sizes once, so that no client pays for the first of each."""
        for rows in WARM_UP_ROWS:
            self.predict([np.zeros((rows, self.spec.input_size), np.float32)])

    @torch.inference_mode()
    def _predict_rows(self, rows: np.ndarray) -> np.ndarray:
        """`(n, input_size)` float32 to probabilities `(n, num_classes)` float32."""
        inputs = torch.from_numpy(rows).to(self.device, self.dtype)
        predicted: np.ndarray = torch.softmax(self.model(inputs).float(), dim=1).cpu().numpy()
        return predicted

    @torch.inference_mode()
    def _predict_prepared(self, rows: np.ndarray) -> np.ndarray:
        """The same for a network that takes prepared rows, or whose outputs are not logits."""
        inputs = self.inputs.for_network(torch.from_numpy(rows), self.device, self.dtype)
        predicted: np.ndarray = probabilities(self.model(inputs), self.output).float().cpu().numpy()
        # Probabilities may pass all that unchanged, and then lie in a buffer that the network fills again next time.
        return predicted.copy() if self.output == PROBABILITIES else predicted


def worker_device(gpu_id: int | None) -> torch.device:
    """The device of a worker: the GPU that TorchServe assigned to it, else Apple's if there is one, else the CPU."""
    if gpu_id is not None and torch.cuda.is_available():
        return torch.device("cuda", int(gpu_id))
    if torch.backends.mps.is_available():
        return torch.device("mps")
    if gpu_id is not None:
        logger.warning("TorchServe assigned GPU %s, but this torch build has no CUDA: running on the CPU", gpu_id)
    return torch.device("cpu")
