"""Which device to compute on.

In: a name, or none. Out: a device that is there.
"""

import torch

from tinymemorylm.errors import InputError


def choose_device(name: str | None) -> torch.device:
    """`name`, or the best there is. Raises InputError for a device that isn't there."""
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} can't be used: {reason}") from None
    return torch.device(name)
