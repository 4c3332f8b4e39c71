# Adam as in the authors' notebook; "epochs" are counted in steps, and open validation runs at every
# 100th.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='OpenGANOptimWrapperConstructor',
    discriminator=dict(optimizer=dict(type='Adam', lr=1e-4 / 1.5, betas=(0.5, 0.999))),
    generator=dict(optimizer=dict(type='Adam', lr=1e-4, betas=(0.5, 0.999))),
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2000, val_interval=100)
