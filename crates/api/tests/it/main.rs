//! The API as its users see it.

#[cfg(test)]
mod conditions;
#[cfg(test)]
mod durations;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod names;
#[cfg(test)]
mod paths;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod schemas;
