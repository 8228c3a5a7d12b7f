"""What an unexpected exception becomes for a client: never its text, which may hold secrets or paths and is logged."""

import logging
from collections.abc import Sequence

from simplenet.errors import OutOfMemoryError, PredictionError, RequestError
from simplenet.worker import exits
from simplenet.worker.exception_text import is_a, message_of, traceback_of, type_name

logger = logging.getLogger(__name__)

# In a RuntimeError: in torch, the CPU's allocator, Apple's, and CUDA's libraries have no exception class of their own.
_ALLOCATION_FAILED = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
_LOST = ("CUDA error", "device-side assert")  # in a RuntimeError, if it may be for good


class DeviceLostError(SystemExit):
    """CUDA fails every call from now on, as after a device-side assert; only another process can use the device.

    It is a SystemExit so that TorchServe's own service, which has no other way, also ends and is replaced.
    """


class WrongOutputShapeError(PredictionError):
    """The network returned outputs of another shape. The predictor alone raises this: its message is for clients.

    Any other PredictionError comes from the network, as any exception may that it raises: its message is logged.
    """

    type = "WrongOutputShape"

    def __init__(self, expected: tuple[int, ...], found: tuple[int, ...]) -> None:
        super().__init__(
            f"prediction: expected outputs of shape {expected} from the network, found {found}; "
            "trying again is of no use"
        )


def failed_alone(stage: str, error: Exception) -> RequestError:
    """The error for the one request whose decoding or encoding raised; its traceback is logged.

    Example:
        >>> failed_alone("decoding", KeyError("secret")).type
        'KeyError'
    """
    name = type_name(error)
    logger.error("%s one request raised %s\n%s", stage, name, traceback_of(error))
    if out_of_memory(error):
        return OutOfMemoryError(f"{stage}: the worker is out of memory; send fewer rows at a time, or try again")
    return PredictionError(
        f"{stage}: this request raised {name}; trying again is of no use (the worker's log has the cause)", name
    )


def prediction_failed(error: BaseException, alone: bool) -> RequestError:
    """The error for requests whose forward pass raised.

    Args:
        error: any exception, also one that is no Exception.
        alone: whether one request was predicted: it is to blame, and the traceback is logged.

    Raises:
        DeviceLostError: this process can predict nothing any more.
    """
    exits.end_child(error)
    if device_lost(error):
        logger.error("the device fails for good: this worker ends\n%s", traceback_of(error))
        raise DeviceLostError("the device fails for good") from None
    name = type_name(error)
    if alone:
        logger.error("the network raised %s for one request\n%s", name, traceback_of(error))
    if out_of_memory(error):
        return OutOfMemoryError("prediction: the worker is out of memory; send fewer rows at a time, or try again")
    if type(error) is WrongOutputShapeError:
        return PredictionError(str(error), error.type)  # without its traceback, whose frames hold tensors
    return PredictionError(
        f"prediction: the network raised {name} for this request; trying again is of no use "
        "(the worker's log has the cause)",
        name,
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy, or torch on any device could not allocate."""
    import torch  # here, because the protocol does not need it; a worker has imported it already

    if is_a(error, MemoryError, torch.cuda.OutOfMemoryError):
        return True
    return is_a(error, RuntimeError) and _says(error, _ALLOCATION_FAILED)


def device_lost(error: BaseException) -> bool:
    """Whether CUDA fails for good in this process: not every CUDA error does that, so a small computation is tried."""
    if not is_a(error, RuntimeError) or out_of_memory(error):
        return False
    return _says(error, _LOST) and _cuda_fails()


def _says(error: BaseException, texts: Sequence[str]) -> bool:
    message = message_of(error)
    return any(text in message for text in texts)


def _cuda_fails() -> bool:
    import torch

    if not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
        torch.ones(1, device="cuda").add_(1).cpu()
    except RuntimeError as error:
        return not out_of_memory(error)
    return False
