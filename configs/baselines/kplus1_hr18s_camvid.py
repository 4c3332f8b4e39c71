# HRNet-(K+1) tested: the open score is the log-odds of class 12, whole network trained by
# kplus1_train_hr18s_camvid.py. The closed map is the best of the other 11.
_base_ = '../opengan/opengan_hr18s_camvid.py'
model = dict(
    discriminator=None,
    generator=None,
    segmentor=dict(
        config=dict(model=dict(decode_head=dict(num_classes=12))),
        checkpoint='work_dirs/kplus1_train_hr18s_camvid/segmentor.pth',
    ),
    scorers=dict(_delete_=True, kplus1=dict(type='OpenClass')),
)
