# OpenGAN-0 (lambda_o = 0): no open pixel is trained on; open validation still picks the checkpoint.
_base_ = './opengan_hr18s_camvid.py'
model = dict(lambda_fake=1.0)
train_dataloader = dict(dataset=dict(open=None))
# Without open pixels D is best early: validate often.
train_cfg = dict(max_iters=300, val_interval=25)
