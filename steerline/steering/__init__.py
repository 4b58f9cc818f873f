"""What acts inside a forward pass: `attach` a spec to a model, or apply `boost_keys` and `key_entropy` by hand."""

from steerline.steering.attach import Attachment, attach
from steerline.steering.infosteer import boost_keys, key_entropy

__all__ = ["Attachment", "attach", "boost_keys", "key_entropy"]
