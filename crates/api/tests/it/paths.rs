//! Every field of both kinds with its type, against a table.
//!
//! The table is written by hand from the published API. A group of fields that several places share stands once, and
//! `@group` takes it over. `x[]` is a list's item, `x{}` a map's value.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Fields and types, one a line; a line beginning with `+` is an addition of ours.
const GROUPS: &[(&str, &str)] = &[
    (
        "source",
        "sourcePVC string
        trigger @trigger
        paused boolean
        external.provider string
        external.parameters{} string
        rsync @source-volume
        rsync @rsync
        rsyncTLS @source-volume
        rsyncTLS @mover
        rsyncTLS.keySecret string
        rsyncTLS.address string
        rsyncTLS.port integer/int32
        rclone @source-volume
        rclone @mover
        rclone @rclone
        restic @source-volume
        restic @mover
        restic @restic
        restic.pruneIntervalDays integer/int32
        restic.retain.hourly integer/int32
        restic.retain.daily integer/int32
        restic.retain.weekly integer/int32
        restic.retain.monthly integer/int32
        restic.retain.yearly integer/int32
        restic.retain.within string
        restic.retain.last string
        restic.unlock string
        restic.exclude.caches boolean
        syncthing @mover
        syncthing.peers[].address string
        syncthing.peers[].ID string
        syncthing.peers[].introducer boolean
        syncthing.serviceType string
        syncthing.configCapacity quantity
        syncthing.configStorageClassName string
        syncthing.configAccessModes[] string",
    ),
    (
        "destination",
        "trigger @trigger
        paused boolean
        external.provider string
        external.parameters{} string
        rsync @destination-volume
        rsync @rsync
        rsync.volumeMode string
        rsync.serviceAnnotations{} string
        rsyncTLS @destination-volume
        rsyncTLS @mover
        rsyncTLS.volumeMode string
        rsyncTLS.keySecret string
        rsyncTLS.serviceType string
        rsyncTLS.serviceAnnotations{} string
        rclone @destination-volume
        rclone @mover
        rclone @rclone
        restic @destination-volume
        restic @mover
        restic @restic
        restic.cleanupCachePVC boolean
        restic.previous integer/int32
        restic.restoreAsOf string/date-time
        restic.enableFileDeletion boolean",
    ),
    (
        "trigger",
        "schedule string
        manual string",
    ),
    (
        "source-volume",
        "copyMethod string
        capacity quantity
        storageClassName string
        accessModes[] string
        volumeSnapshotClassName string",
    ),
    (
        "destination-volume",
        "@source-volume
        destinationPVC string
        cleanupTempPVC boolean",
    ),
    (
        "rsync",
        "sshKeys string
        serviceType string
        address string
        port integer/int32
        path string
        sshUser string
        @mover-basics
        +@mover-rest",
    ),
    (
        "rclone",
        "rcloneConfigSection string
        rcloneDestPath string
        rcloneConfig string
        customCA @custom-ca",
    ),
    (
        "restic",
        "repository string
        customCA @custom-ca
        cacheCapacity quantity
        cacheStorageClassName string
        cacheAccessModes[] string",
    ),
    (
        "custom-ca",
        "secretName string
        configMapName string
        key string",
    ),
    (
        "mover",
        "@mover-basics
        @mover-rest",
    ),
    (
        "mover-basics",
        "moverServiceAccount string
        moverPodLabels{} string
        moverResources @resources",
    ),
    (
        "mover-rest",
        "moverSecurityContext @pod-security-context
        moverAffinity @affinity
        moverVolumes[].mountPath string
        moverVolumes[].volumeSource.secret.secretName string
        moverVolumes[].volumeSource.secret.defaultMode integer/int32
        moverVolumes[].volumeSource.secret.optional boolean
        moverVolumes[].volumeSource.secret.items[].key string
        moverVolumes[].volumeSource.secret.items[].path string
        moverVolumes[].volumeSource.secret.items[].mode integer/int32
        moverVolumes[].volumeSource.nfs.server string
        moverVolumes[].volumeSource.nfs.path string
        moverVolumes[].volumeSource.nfs.readOnly boolean
        moverVolumes[].volumeSource.persistentVolumeClaim.claimName string
        moverVolumes[].volumeSource.persistentVolumeClaim.readOnly boolean",
    ),
    (
        "resources",
        "limits{} quantity
        requests{} quantity
        claims[].name string
        claims[].request string",
    ),
    (
        "pod-security-context",
        "appArmorProfile.localhostProfile string
        appArmorProfile.type string
        fsGroup integer/int64
        fsGroupChangePolicy string
        runAsGroup integer/int64
        runAsNonRoot boolean
        runAsUser integer/int64
        seLinuxChangePolicy string
        seLinuxOptions.level string
        seLinuxOptions.role string
        seLinuxOptions.type string
        seLinuxOptions.user string
        seccompProfile.localhostProfile string
        seccompProfile.type string
        supplementalGroups[] integer/int64
        supplementalGroupsPolicy string
        sysctls[].name string
        sysctls[].value string
        windowsOptions.gmsaCredentialSpec string
        windowsOptions.gmsaCredentialSpecName string
        windowsOptions.hostProcess boolean
        windowsOptions.runAsUserName string",
    ),
    (
        "affinity",
        "nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[].weight integer/int32
        nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[].preference @node-selector-term
        nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[] @node-selector-term
        podAffinity @pod-affinity
        podAntiAffinity @pod-affinity",
    ),
    (
        "node-selector-term",
        "matchExpressions[] @requirement
        matchFields[] @requirement",
    ),
    (
        "requirement",
        "key string
        operator string
        values[] string",
    ),
    (
        "pod-affinity",
        "preferredDuringSchedulingIgnoredDuringExecution[].weight integer/int32
        preferredDuringSchedulingIgnoredDuringExecution[].podAffinityTerm @pod-affinity-term
        requiredDuringSchedulingIgnoredDuringExecution[] @pod-affinity-term",
    ),
    (
        "pod-affinity-term",
        "labelSelector @selector
        namespaceSelector @selector
        matchLabelKeys[] string
        mismatchLabelKeys[] string
        namespaces[] string
        topologyKey string",
    ),
    (
        "selector",
        "matchLabels{} string
        matchExpressions[] @requirement",
    ),
    (
        "status",
        "lastSyncTime string/date-time
        lastSyncStartTime string/date-time
        lastSyncDuration string
        nextSyncTime string/date-time
        lastManualSync string
        latestMoverStatus.result string
        latestMoverStatus.logs string
        conditions[].type string
        conditions[].status string
        conditions[].reason string
        conditions[].message string
        conditions[].lastTransitionTime string/date-time
        conditions[].observedGeneration integer/int64
        external{} string
        rsync.sshKeys string
        rsync.address string
        rsync.port integer/int32
        rsyncTLS.keySecret string
        +progress.phase string
        +progress.bytesDone integer/int64
        +progress.bytesTotal integer/int64
        +progress.filesDone integer/int64
        +progress.filesTotal integer/int64
        +retry.failures integer/int32
        +retry.cause string
        +retry.nextAttempt string/date-time
        +rclone.generation string
        +rclone.volume string
        +rclone.triedWith string",
    ),
    (
        "source-status",
        "@status
        restic.lastPruned string/date-time
        restic.lastUnlocked string
        syncthing.ID string
        syncthing.address string
        syncthing.peers[].address string
        syncthing.peers[].ID string
        syncthing.peers[].connected boolean
        syncthing.peers[].introducedBy string
        syncthing.peers[].name string
        +rsync.lastSyncedEntries integer/int64
        +rsync.allowedEmptySource string
        +rclone.lastSyncedEntries integer/int64
        +rclone.allowedEmptySource string
        +rclone.tookOver string
        +rclone.blind boolean
        +rclone.runsSinceFullCheck integer/int32",
    ),
    (
        "destination-status",
        "@status
        rsyncTLS.address string
        rsyncTLS.port integer/int32
        latestImage.apiGroup string
        latestImage.kind string
        latestImage.name string",
    ),
];

/// Writes out a group's fields below a path.
fn write_out(group: &str, path: &str, fields: &mut BTreeMap<String, String>) {
    let (_, lines) = GROUPS
        .iter()
        .find(|(name, _)| *name == group)
        .unwrap_or_else(|| panic!("no group {group}"));
    for line in lines.lines().map(str::trim) {
        if let Some(group) = line.trim_start_matches('+').strip_prefix('@') {
            write_out(group, path, fields);
            continue;
        }
        let (field, kind) = line
            .trim_start_matches('+')
            .split_once(' ')
            .expect("a field and a type");
        let field = format!("{path}.{field}");
        match kind.strip_prefix('@') {
            Some(group) => write_out(group, &field, fields),
            None => assert_eq!(
                fields.insert(field.clone(), kind.to_owned()),
                None,
                "{field} stands twice"
            ),
        }
    }
}

/// Walks a schema down to the fields that hold values.
fn walk(schema: &Value, path: &str, fields: &mut BTreeMap<String, String>) {
    if let Some(items) = schema.get("items") {
        return walk(items, &format!("{path}[]"), fields);
    }
    if let Some(values) = schema.get("additionalProperties") {
        return walk(values, &format!("{path}{{}}"), fields);
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            walk(property, &format!("{path}.{name}"), fields);
        }
        return;
    }
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    let kind = match (text("type"), text("format")) {
        _ if schema.get("x-kubernetes-int-or-string").is_some() => "quantity".to_owned(),
        (Some(kind), Some(format)) => format!("{kind}/{format}"),
        (kind, _) => kind.unwrap_or("nothing").to_owned(),
    };
    fields.insert(path.to_owned(), kind);
}

#[test]
fn every_field_is_there_with_its_type_and_no_other() {
    for (kind, spec, status) in [
        (0, "source", "source-status"),
        (1, "destination", "destination-status"),
    ] {
        let mut expected = BTreeMap::new();
        write_out(spec, "spec", &mut expected);
        write_out(status, "status", &mut expected);
        let schema = super::schemas::schema(kind);
        let mut found = BTreeMap::new();
        walk(&schema["properties"]["spec"], "spec", &mut found);
        walk(&schema["properties"]["status"], "status", &mut found);
        let expected: BTreeSet<_> = expected.into_iter().collect();
        let found: BTreeSet<_> = found.into_iter().collect();
        let missing: Vec<_> = expected.difference(&found).collect();
        let unknown: Vec<_> = found.difference(&expected).collect();
        assert!(
            missing.is_empty() && unknown.is_empty(),
            "{spec}: missing {missing:#?}, unknown {unknown:#?}"
        );
        assert!(found.len() > 200, "{} fields", found.len());
    }
}
