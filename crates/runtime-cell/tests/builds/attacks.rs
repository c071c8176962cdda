//! What the author of a Dockerfile could try against the machine and against others.

use crate::rig::{BASE, Bench};

#[tokio::test]
async fn a_step_sees_and_reaches_nothing_of_the_machine() {
    let bench = Bench::start().await;
    std::fs::write(bench.rig.directory.join("canary"), "canary").unwrap();
    let attempts = [
        "mount -t tmpfs none /mnt",
        "mount -o remount,rw /proc/sys",
        "umount /proc",
        "mknod /d b 7 0 && cat /d",
        "mknod /d c 1 1 && cat /d",
        "echo 1 > /proc/sysrq-trigger",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo x > /sys/kernel/uevent_helper",
        "cat /proc/1/root/etc/shadow",
        "ls /run/docker.sock /proc/1/root/run/systemd",
        "echo > /proc/1/root/build/source/Dockerfile",
        "echo > /proc/1/root/build/bases/0/manifest.json",
        "echo > /proc/1/root/build/given/policy.json",
        "echo > /proc/1/root/usr/bin/written",
        "nc -w 2 1.1.1.1 80 < /dev/null",
        "nslookup example.com",
        "chown 70000 /tmp",
    ];
    let mut dockerfile = format!("FROM {BASE}\n");
    for (number, attempt) in attempts.iter().enumerate() {
        dockerfile.push_str(&format!(
            "RUN if timeout 5 sh -c '{attempt}' 2>/dev/null; then echo got-through-{number}; fi\n"
        ));
    }
    dockerfile.push_str("RUN id; cat /proc/self/status; env; cat /proc/1/environ; ls /sys/class/net /dev\n");
    bench.built(1, &dockerfile, &[]).await;
    let log = bench.log().await;
    for (number, attempt) in attempts.iter().enumerate() {
        assert!(!log.contains(&format!("\ngot-through-{number}")), "{attempt}\n{log}");
    }
    assert!(!log.contains(crate::support::CANARY), "{log}");
    assert!(!log.contains("loop0") && !log.contains("kmsg\n"), "{log}");
    let bounds = log.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    let bits = u64::from_str_radix(bounds, 16).unwrap();
    assert_eq!(bits & (1 << 21), 0, "a step may not mount: {bounds}");
    bench.end().await;
}

#[tokio::test]
async fn files_that_a_build_leaves_in_the_place_of_its_result_lead_nowhere() {
    let bench = Bench::start().await;
    // The step gets out of its root by way of the first process, which is root of the same user namespace, and leaves links where the
    // result will be looked for.
    let dockerfile = format!(
        "FROM {BASE}\nRUN ls /proc/1/root/build/work && ln -s /etc/shadow /proc/1/root/build/work/image && echo linked\n"
    );
    let spec = bench
        .generation(1, &[("Dockerfile", &dockerfile)], &crate::rig::build())
        .await;
    let outcome = bench.run(&spec).await.unwrap();
    let text = format!("{outcome:?}");
    assert!(!text.contains("root:"), "{text}");
    bench.nothing_left();
    bench.end().await;
}
