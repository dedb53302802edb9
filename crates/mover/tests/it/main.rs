//! The rsync mover over real sshd, ssh and rsync on loopback: both ends ours, VolSync's source against our destination,
//! our source against a destination that behaves like VolSync's, and peers that mean harm. The rclone mover with the real
//! rclone and real stores.

#[cfg(test)]
mod block;
mod faults;
mod hostile;
#[cfg(test)]
mod pair;
#[cfg(test)]
mod rclone;
#[cfg(test)]
mod stand_in;
mod stock;
mod together;
#[cfg(test)]
mod tree;
