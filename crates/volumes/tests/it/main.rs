//! Volumes on the file systems of this machine, and, as root, on btrfs and XFS of their own. Whole trees are compared.

#[cfg(test)]
mod compare;
#[cfg(test)]
mod copies;
#[cfg(test)]
mod disks;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod live;
#[cfg(test)]
mod removal;
