"""What acts inside a forward pass: `attach` a spec to a model, or apply the papers' functions by hand."""

from steerline.steering.attach import Attachment, attach
from steerline.steering.infosteer import boost_keys, key_entropy
from steerline.steering.safr import importance_loss, interaction_loss

__all__ = ["Attachment", "attach", "boost_keys", "importance_loss", "interaction_loss", "key_entropy"]
