"""The maps of a test as files, named after their images."""

from pathlib import Path

import cv2
import numpy as np
from mmengine.dist import all_gather_object

from ..contracts import OPEN_SCORES
from ..files import half_where_it_fits, replacing
from .decided import KINDS_OF_FILES


class MapFiles:
    """Writes ``{image}.png``, the closed class ids, and ``{image}.{scorer}.npy``, raw scores.

    Args:
        folder: made where it is missing.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._written: dict[str, str] = {}  # stem -> image

    def reset(self) -> None:
        """Forget what was written, before another evaluation."""
        self._written = {}

    def write(self, sample: dict) -> None:
        """Write the maps of one image.

        Raises:
            ValueError: another image of that name was written, or the folder is that of the image
                or of its label.
        """
        self._require_apart(sample)
        stem = self.folder / Path(sample['img_path']).stem
        _note(self._written, stem.name, sample['img_path'])
        prediction = sample['pred_sem_seg']['data'].squeeze().cpu().numpy()
        kind = np.uint8 if prediction.max() < 256 else np.uint16
        with replacing(f'{stem}.png') as file:
            file.write(cv2.imencode('.png', prediction.astype(kind))[1].tobytes())
        for name, scores in sample[OPEN_SCORES].items():
            with replacing(f'{stem}.{name}.npy') as file:
                np.save(file, half_where_it_fits(scores.squeeze(0).cpu().numpy()))

    def _require_apart(self, sample: dict) -> None:
        for kind in KINDS_OF_FILES:
            path = sample.get(kind)
            if path and Path(path).resolve().parent == self.folder.resolve():
                raise ValueError(
                    'output_dir: wanted a folder apart from images and labels, found '
                    f"'{self.folder}' with '{path}'"
                )

    def require_own_names(self) -> None:
        """Raise a ValueError where two ranks have written images of one name."""
        together: dict[str, str] = {}
        for written in all_gather_object(self._written):
            for name, image in written.items():
                _note(together, name, image)


def _note(written, name, image):
    first = written.setdefault(name, image)
    if first != image:
        raise ValueError(
            f"output_dir: files are named after images, and '{first}' and '{image}' have the same "
            'name'
        )
