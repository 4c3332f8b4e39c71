# HRNetV2-W48 + FCNHead (the paper's), 720-d penultimate features at stride 4, frozen, with OpenGAN
# on top.
_base_ = './opengan.py'
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    segmentor=dict(
        config=dict(
            model=dict(
                type='EncoderDecoder',
                data_preprocessor=dict(
                    type='SegDataPreProcessor',
                    mean=[123.675, 116.28, 103.53],
                    std=[58.395, 57.12, 57.375],
                    bgr_to_rgb=True,
                    pad_val=0,
                    seg_pad_val=255,
                ),
                backbone=dict(
                    type='HRNet',
                    norm_cfg=norm_cfg,
                    norm_eval=False,
                    extra=dict(
                        stage1=dict(
                            num_modules=1,
                            num_branches=1,
                            block='BOTTLENECK',
                            num_blocks=(4,),
                            num_channels=(64,),
                        ),
                        stage2=dict(
                            num_modules=1,
                            num_branches=2,
                            block='BASIC',
                            num_blocks=(4, 4),
                            num_channels=(48, 96),
                        ),
                        stage3=dict(
                            num_modules=4,
                            num_branches=3,
                            block='BASIC',
                            num_blocks=(4, 4, 4),
                            num_channels=(48, 96, 192),
                        ),
                        stage4=dict(
                            num_modules=3,
                            num_branches=4,
                            block='BASIC',
                            num_blocks=(4, 4, 4, 4),
                            num_channels=(48, 96, 192, 384),
                        ),
                    ),
                ),
                decode_head=dict(
                    type='FCNHead',
                    in_channels=[48, 96, 192, 384],
                    in_index=(0, 1, 2, 3),
                    channels=sum([48, 96, 192, 384]),
                    input_transform='resize_concat',
                    kernel_size=1,
                    num_convs=1,
                    concat_input=False,
                    dropout_ratio=-1,
                    num_classes=19,
                    norm_cfg=norm_cfg,
                    align_corners=False,
                    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                ),
                test_cfg=dict(mode='whole'),
            )
        )
    )
)
