# CLS (lambda_G = 0): closed against real open pixels, no generator.
_base_ = './opengan_demo.py'
work_dir = '{{$DEMO_OUTPUT:demo_output}}/cls'
model = dict(fuse=None, generator=None)
