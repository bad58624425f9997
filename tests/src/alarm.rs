//! An alarm of the private broker.

use crate::servers::Servers;

/// An alarm of the broker, put back when dropped.
#[derive(Debug)]
pub struct Alarm<'a> {
    servers: &'a Servers,
    usual: String,
}

impl<'a> Alarm<'a> {
    /// Has the broker think that it has no memory left: it reads nothing more from who publishes.
    ///
    /// # Panics
    /// When that cannot be done.
    #[must_use]
    pub fn raise(servers: &'a Servers) -> Self {
        let ask = "vm_memory_monitor:get_vm_memory_high_watermark().";
        let usual = servers.output(&["ctl", "eval", ask]).trim().to_owned();
        let alarm = Self { servers, usual };
        assert!(alarm.set("0.0000001"), "no alarm could be raised");
        alarm
    }

    fn set(&self, watermark: &str) -> bool {
        let set = ["ctl", "set_vm_memory_high_watermark", watermark];
        self.servers.try_run(&set).is_some()
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if !self.set(&self.usual) {
            eprintln!("the watermark {} was not put back", self.usual);
        }
    }
}
