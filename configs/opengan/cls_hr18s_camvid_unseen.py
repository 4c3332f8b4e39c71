# CLS (lambda_G = 0) on CamVid without OtherMoving in training: no generator.
_base_ = './opengan_hr18s_camvid_unseen.py'
model = dict(generator=None, lambda_fake=0.0)
train_dataloader = dict(dataset=dict(sampler=dict(num_fake=0)))
optim_wrapper = dict(generator=None)
