"""Pictures: of files as a config loads them, and for people, with colours and names."""

from denseclip_mm.apis.pictures.drawing import (
    distinct_colours,
    empty_figure,
    enlarged,
    paint,
    write_names,
)
from denseclip_mm.apis.pictures.reading import (
    load_image,
    loading_step,
    read_image,
    shown,
    whole_picture,
)

__all__ = ['distinct_colours', 'empty_figure', 'enlarged', 'load_image', 'loading_step', 'paint',
           'read_image', 'shown', 'whole_picture', 'write_names']
