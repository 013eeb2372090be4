"""Class names to text embeddings: the token tree, CLIP's text tower, the prompts."""

from denseclip_mm.text.cache import TextCache
from denseclip_mm.text.contexts import ContextPrompt, LearnedContext
from denseclip_mm.text.discrete import DiscreteContext
from denseclip_mm.text.prompts import Prompt, TemplatePrompt, TextEmbeddings
from denseclip_mm.text.tower import CLIPTextTower
from denseclip_mm.text.tree import TokenTree, grow_trees

__all__ = [
    'CLIPTextTower',
    'ContextPrompt',
    'DiscreteContext',
    'LearnedContext',
    'Prompt',
    'TemplatePrompt',
    'TextCache',
    'TextEmbeddings',
    'TokenTree',
    'grow_trees'
]
