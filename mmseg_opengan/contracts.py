"""Field names and label values that every layer agrees on. This module imports nothing.

Two ground-truth maps travel with a sample. ``gt_sem_seg`` is mmseg's own: the closed class ids, and
``IGNORE`` at every pixel that is not closed, so that mIoU stays the ordinary one. ``GT_OPEN_MAP``
says what each pixel is for open-set work:

======================  ====================================================================
value                   meaning
======================  ====================================================================
``CLOSED`` (0)          one of the K closed classes
``1 + i``               open, of the class ``metainfo['open_classes'][i]``
``VOID`` (255)          neither: never sampled, never scored
======================  ====================================================================
"""

IGNORE = 255  # mmseg's ignore_index in gt_sem_seg

CLOSED = 0
FIRST_OPEN = 1
VOID = 255
MAX_OPEN_CLASSES = VOID - FIRST_OPEN

#: SegDataSample field, PixelData (1, H, W) uint8 with the values above.
GT_OPEN_MAP = 'gt_open_map'
#: SegDataSample field, PixelData holding one (1, h, w) float map per scorer; larger = more open.
OPEN_SCORES = 'open_scores'
#: Keys of a batch that brings the segmentor's tap with it, (C, h, w) features and (K, h, w) logits
#: of each image.
TAP_FEATURES, TAP_LOGITS = 'tap_features', 'tap_logits'
#: Prefix of the per-image metainfo and manifest keys that say how labels were read.
LABEL_POLICY = 'label_policy'

#: The two grids on which scores are compared with labels.
RESOLUTIONS = ('feature', 'image')
#: Name under which the trained discriminator's scores travel.
OPENGAN = 'opengan'
#: Name of a free score that D raises, where ``model.fuse`` asks for it.
HYBRID = 'hybrid'
