//! What is written into the description of a container.

use super::*;

fn plan() -> Plan {
    Plan {
        host_name: "web".into(),
        address: Ipv4Addr::new(10, 77, 1, 1),
        argv: vec!["true".into()],
        variables: vec![("GREETING".into(), "hello".into())],
        working_directory: "/".into(),
        user: 0,
        group: 0,
        groups: vec![],
        home: None,
        image: None,
        builds: false,
        mounts: vec![],
        limits: Limits::default(),
        bounds_swap: true,
        cgroup: "/m/e/c".into(),
        range: idmap::Range { first: 1_000_000 },
        etc: "/nowhere".into(),
        init: None,
        options: model::Options::default(),
    }
}

#[test]
fn targets_that_leave_their_place_or_hide_the_sandbox_are_refused() {
    for bad in [
        "",
        "/",
        "relative",
        "/a/../etc",
        "/a/./b",
        "/a//b",
        "/proc",
        "/proc/sys",
        "/etc/passwd",
        "/usr/bin",
        "/lib/x",
        "/.cell/hosts",
        "/a\0b",
    ] {
        assert!(check_target(bad).is_err(), "{bad:?}");
    }
    for good in ["/app", "/srv/data", "/var/lib/x", "/library", "/tmp/x"] {
        assert!(check_target(good).is_ok(), "{good:?}");
    }
}

#[test]
fn a_container_has_no_capabilities_and_only_the_variables_that_it_was_given() {
    let config = config(&plan());
    let process = &config["process"];
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        assert_eq!(process["capabilities"][set], json!([]), "{set}");
    }
    assert_eq!(process["noNewPrivileges"], true);
    let names: Vec<&str> = process["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap().split('=').next().unwrap())
        .collect();
    assert_eq!(names, ["PATH", "HOME", "GREETING"]);
    assert!(
        !config.to_string().contains("oomScoreAdj"),
        "this fails where CAP_SYS_RESOURCE is missing"
    );
    let bounds = process["rlimits"].as_array().unwrap();
    assert_eq!(bounds.len(), 1, "nothing but dumps is bounded unasked: {bounds:?}");
    assert_eq!(bounds[0]["type"], "RLIMIT_CORE");
    let own = getrlimit(Resource::Core).maximum.unwrap_or(u64::MAX);
    assert!(bounds[0]["hard"].as_u64().unwrap() <= own.min(NO_CORE), "{bounds:?}");
}

#[test]
fn every_host_directory_is_read_only() {
    for mount in mounts(Path::new("/bundle"), &plan()) {
        if mount["type"] == "bind" {
            assert!(mount["options"].as_array().unwrap().contains(&json!("ro")), "{mount}");
            assert!(mount["options"].as_array().unwrap().contains(&json!("rro")), "{mount}");
        }
    }
}

#[test]
fn what_is_mounted_below_is_found_and_what_lies_beside_is_not() {
    let found = mounted_below(Path::new("/proc/self/.."));
    assert!(found.is_empty(), "only what the table calls so: {found:?}");
    assert!(mounted_below(Path::new("/")).contains(&PathBuf::from("/proc")));
    assert!(!mounted_below(Path::new("/proc")).contains(&PathBuf::from("/proc")));
}
