# The paper's batch construction to the letter: one whole image through HRNet at every step, open
# pixels from the cache.
_base_ = './opengan_hr48_cityscapes.py'
train_dataloader = dict(dataset=dict(type='OnlineSource'))
