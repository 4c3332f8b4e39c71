# All methods of the demo in one pass over the test images; every D is the one that open validation
# picked. OpenGAN's is the model's own, so that its fused score is there too.
_base_ = './opengan_demo.py'
output = '{{$DEMO_OUTPUT:demo_output}}'
work_dir = f'{output}/test'
load_from = f'{output}/opengan/best.pth'
trained = dict(type='DiscriminatorScorer', discriminator={{_base_.model.discriminator}})
model = dict(
    scorers={
        'msp': dict(type='MSP'),
        'entropy': dict(type='Entropy'),
        'gen': dict(type='GEN'),
        'cls': dict(trained, checkpoint=f'{output}/cls/best.pth'),
        'opengan0': dict(trained, checkpoint=f'{output}/opengan0/best.pth'),
    },
)
