//! Settings of the kernel that a stack may ask for: each is of the container's own namespaces, and whatever its value harms nobody
//! else. What belongs to a container and is missing here would let it speak in another's name, answer for addresses that it does not
//! have, or lead around what keeps networks apart.

/// Their names, in order.
pub const SYSCTLS: [&str; 49] = [
    "fs.mqueue.msg_default",
    "fs.mqueue.msg_max",
    "fs.mqueue.msgsize_default",
    "fs.mqueue.msgsize_max",
    "fs.mqueue.queues_max",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "net.core.somaxconn",
    "net.ipv4.ip_default_ttl",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_autocorking",
    "net.ipv4.tcp_ecn",
    "net.ipv4.tcp_fastopen",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_moderate_rcvbuf",
    "net.ipv4.tcp_mtu_probing",
    "net.ipv4.tcp_no_metrics_save",
    "net.ipv4.tcp_notsent_lowat",
    "net.ipv4.tcp_orphan_retries",
    "net.ipv4.tcp_retries1",
    "net.ipv4.tcp_retries2",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_sack",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_syn_retries",
    "net.ipv4.tcp_synack_retries",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_window_scaling",
    "net.ipv4.tcp_wmem",
    "net.ipv6.conf.all.disable_ipv6",
    "net.ipv6.conf.default.disable_ipv6",
    "net.unix.max_dgram_qlen",
];

/// Whether a stack may ask for it.
#[must_use]
pub fn is_harmless_sysctl(name: &str) -> bool {
    SYSCTLS.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_a_container_be_somebody_else_is_not_among_them() {
        assert!(SYSCTLS.is_sorted(), "they are looked up by halves");
        assert!(SYSCTLS.iter().all(|name| is_harmless_sysctl(name)));
        for name in [
            "net.ipv4.ip_forward",
            "net.ipv4.ip_nonlocal_bind",
            "net.ipv6.ip_nonlocal_bind",
            "net.ipv4.conf.all.proxy_arp",
            "net.ipv4.conf.eth0.arp_ignore",
            "net.ipv4.conf.all.route_localnet",
            "net.ipv4.conf.all.accept_redirects",
            "net.ipv4.conf.all.rp_filter",
            "net.ipv6.conf.all.accept_ra",
            "net.ipv6.conf.all.forwarding",
            "net.core.rmem_max",
            "vm.max_map_count",
        ] {
            assert!(!is_harmless_sysctl(name), "{name}");
        }
    }
}
