//! The driver as a program: as its callers meet it, and as stock csi-sanity does.

#[cfg(test)]
mod calls;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod sanity;
