"""Boxes and outlines of a COCO file, judged by what mmdet and pycocotools make of them."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from reprlib import repr as brief

from denseclip_mm.datasets import outlines
from denseclip_mm.datasets.categories import disagreements
from denseclip_mm.datasets.coco_file import Entry, Use, read, sound
from denseclip_mm.datasets.report import Report

OF_TWO_KINDS = ('ids of images that are numbers, and others texts: {}; pycocotools sorts them, so '
                'write all alike')
NO_IMAGE = 'annotations of images that the file does not list: {}; list them or take both out'
NO_CATEGORY = ('annotations of categories that the file does not list: {}; list them (those that '
               'are no class of the config are left out) or take the annotations out')
NO_SIZE = ('boxes of less than a pixel: {}; mmdet leaves them out, and a box is [x, y, width, '
           'height] in pixels')
OUTSIDE = ('boxes outside of their picture: {}; mmdet leaves them out, and a box is [x, y, width, '
           'height] in pixels')
NO_AREA = ('boxes whose area is 0 or less: {}; mmdet leaves them out, and width * height of the '
           'box will do')
IGNORED = 'boxes with "ignore": {}; mmdet leaves them out'
NO_RUNS = ('boxes with run lengths: {}; LoadAnnotations(poly2mask=False) takes polygons alone, and '
           'mmdet leaves the boxes out')
LEFT_OUT = (NO_SIZE, OUTSIDE, NO_AREA, IGNORED, outlines.FEW, NO_RUNS)  # which may be meant so
CROWDS = 'boxes of crowds: {}; nothing learns them, so write "iscrowd": 0 of a single thing'
BACKGROUND = 'categories that are no class of the config, and so background: {}'
BEYOND = ('boxes that reach out of their picture: {}; a box is [x, y, width, height] in pixels, '
          'and not its corners')
LOOSE = ('boxes that are not around their outlines: {}; a box is [x, y, width, height] in pixels, '
         'and not its corners')
DOUBTFUL = (BEYOND, LOOSE)  # a few are in many files; if most are, they are wrong


@dataclass
class BoxReport(Report):
    """What a COCO file holds: also the boxes that are learned from or measured by.

    Attributes:
        use: what is needed of it.
        faults: of its categories and images as a whole, a message each.
        boxes: how many have each label.
        bare: images without such a box.
        pictures: ``images`` of the file that the dataset lists, by their ids.
        joined: reports of the files that the dataset joins with this one.
    """

    use: Use | None = None
    faults: list[str] = field(default_factory=list)
    boxes: Counter[int] = field(default_factory=Counter)
    bare: int = 0
    pictures: dict[int | str, Entry] = field(default_factory=dict)
    joined: list['BoxReport'] = field(default_factory=list)

    def errors(self) -> list[str]:
        """What would stop the training or the measuring, or spoil it, a line each."""
        doubted = [message for message in DOUBTFUL if self._is_usual(message)]
        lines = self.faults + self.lines([
            message for message in self.problems
            if message not in (*LEFT_OUT, *DOUBTFUL, CROWDS, BACKGROUND) or message in doubted])
        if not lines and not self.pictures:
            lines = ['no image is left of it; filter_cfg leaves out those without an annotation of '
                     'a class (filter_empty_gt) and those that are too small (min_size)']
        elif not lines and not self.boxes and (self.use.split == 'train' or self.use.measured):
            why = self.lines([*LEFT_OUT, CROWDS, BACKGROUND]) or ['it has no annotations']
            lines = [f'none of its boxes can be learned or measured: {"; ".join(why)}']
        return [f'{self.use.path}: {line}' for line in lines] + [
            line for report in self.joined for line in report.errors()] + self.disagreements

    def warnings(self) -> list[str]:
        """What may be meant so, a line each."""
        crowded = [CROWDS] if self._is_usual(CROWDS) else []
        doubted = [message for message in DOUBTFUL if not self._is_usual(message)]
        lines = self.lines([*LEFT_OUT, *crowded, *doubted, BACKGROUND]) + self.absent(self.boxes)
        return [f'{self.use.path}: {line}' for line in lines] + [
            line for report in self.joined for line in report.warnings()]

    def _is_usual(self, message: str) -> bool:
        """Whether it is about more than half of the boxes."""
        count = len(self.problems.get(message, ()))
        return 2 * count > self.boxes.total() + (count if message == CROWDS else 0)


def judge(use: Use) -> BoxReport:
    """Read a COCO file, and say what mmdet and pycocotools would make of it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no COCO file.
    """
    content = read(use)
    report = BoxReport(use.split, list(use.classes), use=use)
    images, categories = (sound(kind, content[kind], use.measured, report.problems)
                          for kind in ('images', 'categories'))
    if len({*map(type, images)}) > 1:
        report.problems[OF_TWO_KINDS] = [*map(brief, images)]
    names = {number: category['name'] for number, category in categories.items()}
    references_hold = not report.problems
    if references_hold:  # else what follows from that would be said, too
        report.faults = disagreements([*names.values()], use.classes)
    annotations = sound('annotations', content['annotations'], use.measured, report.problems)
    if not references_hold:
        return report
    labels, background = _labels(report, annotations, images, names)
    if background:
        report.problems[BACKGROUND] = [f'{name!r} ({count:,})'
                                       for name, count in background.items()]
    report.pictures = {
        number: image for number, image in images.items()
        if (number in labels or not use.filled)
        and min(image['height'], image['width']) >= use.min_size}
    report.num_images = len(report.pictures)
    for number in report.pictures:
        found = labels.get(number, [])
        report.bare += not found
        report.boxes.update(found)
        report.images.update({*found})
    return report


def _labels(report: BoxReport, annotations: dict[int | str, Entry], images: dict[int | str, Entry],
            names: dict[int | str, str]) -> tuple[dict[int | str, list[int]], Counter[str]]:
    """Labels of the boxes of each image that has one of a class, and how many others there are."""
    classes = report.use.classes
    label_of = {number: classes.index(name) for number, name in names.items() if name in classes}
    labels, background = defaultdict(list), Counter()
    for annotation in annotations.values():
        image = images.get(annotation['image_id'])
        category = annotation['category_id']
        if image is None or category not in names:
            message, key = ((NO_IMAGE, 'image_id') if image is None
                            else (NO_CATEGORY, 'category_id'))
            report.problems[message].append(f'{annotation["id"]!r}: {brief(annotation[key])}')
        elif category not in label_of:
            background[names[category]] += 1
        else:
            faults = dict(_faults(annotation, image, report.use))
            for message, what in faults.items():
                report.problems[message].append(f'{annotation["id"]!r}: {what}')
            labels[image['id']] += [label_of[category]] * (faults.keys() <= {*DOUBTFUL})
    return labels, background


def _faults(annotation: Entry, image: Entry, use: Use) -> Iterator[tuple[str, str]]:
    """What is wrong with a box and its outline: the message, and what it is about."""
    (left, top, width, height), size = annotation['bbox'], (image['width'], image['height'])
    right, bottom = left + width, top + height
    reason = (
        IGNORED if annotation.get('ignore')
        else NO_SIZE if width < 1 or height < 1
        else OUTSIDE if min(right, size[0]) <= max(left, 0) or min(bottom, size[1]) <= max(top, 0)
        else NO_AREA if annotation['area'] <= 0
        else CROWDS if annotation.get('iscrowd')
        else BEYOND if left < -1 or top < -1 or right > size[0] + 1 or bottom > size[1] + 1
        else None)
    if reason is not None:
        yield reason, (f'{annotation["bbox"]} of {size[0]} x {size[1]}' if reason != NO_AREA
                       else f'{annotation["area"]}')
    if not use.masks or (reason in LEFT_OUT and not use.measured):
        return
    outline = annotation.get('segmentation')
    found = outlines.examine(outline, size[1], size[0], use.measured)
    if isinstance(found, str):
        yield found, brief(outline)
    elif use.polygons and isinstance(outline, dict):
        yield NO_RUNS, f'of {size[0]} x {size[1]}'
    elif reason not in (*LEFT_OUT, CROWDS) and any(
            abs(ours - theirs) > max(2, 0.1 * side) for ours, theirs, side in zip(
                (left, top, right, bottom), found, (width, height) * 2, strict=True)):
        yield LOOSE, f'{annotation["bbox"]} of an outline from {[*map(round, found)]}'
