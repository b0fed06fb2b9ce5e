//! Where the control plane keeps its state on this machine.
