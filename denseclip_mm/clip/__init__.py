"""CLIP towers and their weights, by open_clip's names.

The only room that knows how open_clip describes, fetches and stores a model. Towers are built
empty; weights are read later, checked whole, and copied only if every tensor fits.
"""

from denseclip_mm.clip.config import clip_config, normalisation, normalisations
from denseclip_mm.clip.hub import fault_of, quiet_hub
from denseclip_mm.clip.sources import (
    check_place,
    folder_of,
    is_place,
    own_weights,
    tokenizer_folder,
    weights_here,
)
from denseclip_mm.clip.weights import load_tower, read_file, read_weights

__all__ = ['check_place', 'clip_config', 'fault_of', 'folder_of', 'is_place', 'load_tower',
           'normalisation', 'normalisations', 'own_weights', 'quiet_hub', 'read_file',
           'read_weights', 'tokenizer_folder', 'weights_here']
