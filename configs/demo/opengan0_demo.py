# OpenGAN-0 (lambda_o = 0): no open pixel is trained on; open validation still picks the checkpoint.
_base_ = './opengan_demo.py'
work_dir = '{{$DEMO_OUTPUT:demo_output}}/opengan0'
model = dict(fuse=None, lambda_fake=1.0)
train_dataloader = dict(dataset=dict(open=None))
