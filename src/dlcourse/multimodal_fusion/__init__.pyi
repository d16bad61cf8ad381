from .blip2.masks import attention_mask as attention_mask
from .blip2.model import BLIP2 as BLIP2
from .blip2.model import with_soft_prompt as with_soft_prompt
from .blip2.qformer import QFormer as QFormer
from .blip2.stage1 import Stage1Losses as Stage1Losses
from .blip2.stage1 import itc_similarity as itc_similarity
from .blip2.stage1 import negative_weights as negative_weights
from .blip2.stage1 import stage1_losses as stage1_losses
