# Less than a third of HRNetV2-W18-Small's work: one module per stage, 16 to 128 channels; 240-d
# features at stride 4.
_base_ = '../_base_/models/opengan_fcn_hr18s.py'
model = dict(
    segmentor=dict(
        config=dict(
            model=dict(
                data_preprocessor=dict(size_divisor=1),  # training crops are all of one size
                backbone=dict(
                    extra=dict(
                        stage1=dict(num_channels=(16,)),
                        stage2=dict(num_channels=(16, 32)),
                        stage3=dict(num_modules=1, num_channels=(16, 32, 64)),
                        stage4=dict(num_modules=1, num_channels=(16, 32, 64, 128)),
                    )
                ),
                decode_head=dict(
                    in_channels=[16, 32, 64, 128],
                    channels=sum([16, 32, 64, 128]),
                    loss_decode=[
                        dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                        # The IoU itself: signs, poles and riders are learned in few steps too.
                        dict(type='LovaszLoss', reduction='none', loss_weight=1.0),
                    ],
                ),
            )
        )
    )
)
