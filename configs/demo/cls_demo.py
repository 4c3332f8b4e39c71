# CLS (lambda_G = 0): closed against real open pixels, no generator.
_base_ = './opengan_demo.py'
work_dir = '{{$DEMO_OUTPUT:demo_output}}/cls'
model = dict(generator=None, lambda_fake=0.0)
train_dataloader = dict(dataset=dict(sampler=dict(num_fake=0)))
optim_wrapper = dict(generator=None)
