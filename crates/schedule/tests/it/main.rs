//! What schedules come to, measured against robfig's library and against croner.

#[cfg(test)]
mod robfig;
#[cfg(test)]
mod subset;
#[cfg(test)]
mod triggers;
