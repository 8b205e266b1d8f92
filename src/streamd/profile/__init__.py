"""What values records have, field by field: counted from a sample, in bounded memory."""

from streamd.profile.bounds import Bounds
from streamd.profile.values import Values

__all__ = ["Bounds", "Values"]
