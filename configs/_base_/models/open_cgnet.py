# CGNet (M3N21) of MMSegmentation: 256-d features at stride 8; input in grey levels, not divided by
# a deviation.
norm_cfg = dict(type='BN', eps=1e-3, requires_grad=True)
model = dict(
    type='OpenGANSegmentor',
    segmentor=dict(
        checkpoint=None,
        config=dict(
            model=dict(
                type='EncoderDecoder',
                data_preprocessor=dict(
                    type='SegDataPreProcessor',
                    mean=[72.39239876, 82.90891754, 73.15835921],
                    std=[1, 1, 1],
                    bgr_to_rgb=True,
                    pad_val=0,
                    seg_pad_val=255,
                ),
                backbone=dict(
                    type='CGNet',
                    norm_cfg=norm_cfg,
                    in_channels=3,
                    num_channels=(32, 64, 128),
                    num_blocks=(3, 21),
                    dilations=(2, 4),
                    reductions=(8, 16),
                ),
                decode_head=dict(
                    type='FCNHead',
                    in_channels=256,
                    in_index=2,
                    channels=256,
                    num_convs=0,
                    concat_input=False,
                    dropout_ratio=0,
                    num_classes=19,
                    norm_cfg=norm_cfg,
                    align_corners=False,
                    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                ),
                test_cfg=dict(mode='whole'),
            )
        ),
    ),
    resolution='image',
)
