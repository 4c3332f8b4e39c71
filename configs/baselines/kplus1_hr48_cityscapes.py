# HRNet-(K+1) of the paper's Table 5 (AUROC .755 there), tested: the open score is the log-odds of
# class 20, whole network trained by kplus1_train_hr48_cityscapes.py. The closed map is the best of
# the other 19.
_base_ = '../opengan/opengan_hr48_cityscapes.py'
model = dict(
    discriminator=None,
    generator=None,
    segmentor=dict(
        config=dict(model=dict(decode_head=dict(num_classes=20))),
        checkpoint='work_dirs/kplus1_train_hr48_cityscapes/segmentor.pth',
    ),
    scorers=dict(_delete_=True, kplus1=dict(type='OpenClass')),
)
