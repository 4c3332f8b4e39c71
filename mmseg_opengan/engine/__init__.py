"""What runs inside mmengine's loops: optimizers, hooks, the metric, the visualizer."""
