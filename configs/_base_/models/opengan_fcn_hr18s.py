# HRNetV2-W18-Small-v1 + FCNHead: 270-d penultimate features at stride 4.
_base_ = './opengan_fcn_hr48.py'
model = dict(
    segmentor=dict(
        config=dict(
            model=dict(
                backbone=dict(
                    extra=dict(
                        stage1=dict(num_blocks=(2,)),
                        stage2=dict(num_blocks=(2, 2), num_channels=(18, 36)),
                        stage3=dict(num_modules=3, num_blocks=(2, 2, 2), num_channels=(18, 36, 72)),
                        stage4=dict(
                            num_modules=2, num_blocks=(2, 2, 2, 2), num_channels=(18, 36, 72, 144)
                        ),
                    )
                ),
                decode_head=dict(in_channels=[18, 36, 72, 144], channels=sum([18, 36, 72, 144])),
            )
        )
    )
)
