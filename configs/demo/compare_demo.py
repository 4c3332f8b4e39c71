# All methods of the demo in one pass over the test images; every D is the one that open validation
# picked.
_base_ = './opengan_demo.py'
output = '{{$DEMO_OUTPUT:demo_output}}'
work_dir = f'{output}/test'
model = dict(
    discriminator=None,
    generator=None,
    scorers={
        'MSP': dict(type='MSP'),
        'Entropy': dict(type='Entropy'),
        'CLS': dict(
            type='DiscriminatorScorer',
            discriminator={{_base_.model.discriminator}},
            checkpoint=f'{output}/cls/best.pth',
        ),
        'OpenGAN-0': dict(
            type='DiscriminatorScorer',
            discriminator={{_base_.model.discriminator}},
            checkpoint=f'{output}/opengan0/best.pth',
        ),
        'OpenGAN': dict(
            type='DiscriminatorScorer',
            discriminator={{_base_.model.discriminator}},
            checkpoint=f'{output}/opengan/best.pth',
        ),
    },
)
visualizer = dict(threshold_of='OpenGAN')
