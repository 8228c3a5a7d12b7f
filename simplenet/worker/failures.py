"""What an unexpected exception becomes for a client: never its text, which may hold secrets or paths and is logged."""

import logging

from simplenet.errors import OutOfMemoryError, PredictionError, RequestError
from simplenet.text import visible
from simplenet.worker import exits

logger = logging.getLogger(__name__)

_LONGEST_NAME = 80  # characters of the name of an exception's type
# In a RuntimeError: in torch, the CPU's allocator, Apple's, and CUDA's libraries have no exception class of their own.
_ALLOCATION_FAILED = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
_LOST = ("CUDA error", "device-side assert")  # in a RuntimeError, if it may be for good


class DeviceLostError(SystemExit):
    """CUDA fails every call from now on, as after a device-side assert; only another process can use the device.

    It is a SystemExit so that TorchServe's own service, which has no other way, also ends and is replaced.
    """


def failed_alone(stage: str, error: Exception) -> RequestError:
    """The error for the one request whose decoding or encoding raised; its traceback is logged.

    Example:
        >>> failed_alone("decoding", KeyError("secret")).type
        'KeyError'
    """
    logger.error("%s one request raised %s", stage, type_name(error), exc_info=error)
    if out_of_memory(error):
        return OutOfMemoryError(f"{stage}: the worker is out of memory; send fewer rows at a time, or try again")
    name = type_name(error)
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
        logger.error("the device fails for good: this worker ends", exc_info=error)
        raise DeviceLostError("the device fails for good") from None
    name = type_name(error)
    if alone:
        logger.error("the network raised %s for one request", name, exc_info=error)
    if out_of_memory(error):
        return OutOfMemoryError("prediction: the worker is out of memory; send fewer rows at a time, or try again")
    if isinstance(error, PredictionError):
        return PredictionError(str(error), error.type)  # without its traceback, whose frames hold tensors
    return PredictionError(
        f"prediction: the network raised {name} for this request; trying again is of no use "
        "(the worker's log has the cause)",
        name,
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy, or torch on any device could not allocate."""
    import torch  # here, because the protocol does not need it; a worker has imported it already

    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _ALLOCATION_FAILED)


def device_lost(error: BaseException) -> bool:
    """Whether CUDA fails for good in this process: not every CUDA error does that, so a small computation is tried."""
    if not isinstance(error, RuntimeError) or out_of_memory(error):
        return False
    return any(text in str(error) for text in _LOST) and _cuda_fails()


def type_name(error: BaseException) -> str:
    """The name of an exception's type for a client: short, on one line.

    Example:
        >>> type_name(ValueError("secret"))
        'ValueError'
    """
    name = "os._exit" if isinstance(error, exits.ProcessExitError) else type(error).__name__
    return visible(name.replace(chr(10), " "))[:_LONGEST_NAME]


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
