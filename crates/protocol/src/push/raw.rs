//! Raw contents of a push body, valid or not.

use serde::de::MapAccess;

use crate::{
    GUARDS_MAX, OPERATIONS_MAX,
    json::{RawArray, RawMember, SetMember, set_objects_once, set_once, skip},
};

/// Members of an operation that the protocol defines.
#[derive(Debug, Default)]
pub(super) struct RawOperation<'a> {
    pub(super) record_id: RawMember<'a>,
    pub(super) base_version: RawMember<'a>,
    pub(super) ciphertext: RawMember<'a>,
    pub(super) deleted: RawMember<'a>,
}

/// Members of a guard that the protocol defines.
#[derive(Debug, Default)]
pub(super) struct RawGuard<'a> {
    pub(super) record_id: RawMember<'a>,
    pub(super) version: RawMember<'a>,
}

/// Members of a push body that the protocol defines.
#[derive(Debug, Default)]
pub(super) struct RawPush<'a> {
    pub(super) operations: RawArray<RawOperation<'a>>,
    pub(super) guards: RawArray<RawGuard<'a>>,
    pub(super) epoch: RawMember<'a>,
    pub(super) since: RawMember<'a>,
}

impl<'de> SetMember<'de> for RawPush<'de> {
    fn set_member<A: MapAccess<'de>>(
        &mut self,
        name: &str,
        value: &mut A,
        levels_left: usize,
    ) -> Result<(), A::Error> {
        match name {
            "operations" => {
                set_objects_once(&mut self.operations, value, levels_left, OPERATIONS_MAX)?;
            }
            "guards" => set_objects_once(&mut self.guards, value, levels_left, GUARDS_MAX)?,
            "epoch" => set_once(&mut self.epoch, value, levels_left)?,
            "since" => set_once(&mut self.since, value, levels_left)?,
            _ => skip(value, levels_left)?,
        }
        Ok(())
    }
}

impl<'de> SetMember<'de> for RawOperation<'de> {
    fn set_member<A: MapAccess<'de>>(
        &mut self,
        name: &str,
        value: &mut A,
        levels_left: usize,
    ) -> Result<(), A::Error> {
        match name {
            "recordId" => set_once(&mut self.record_id, value, levels_left),
            "baseVersion" => set_once(&mut self.base_version, value, levels_left),
            "ciphertext" => set_once(&mut self.ciphertext, value, levels_left),
            "deleted" => set_once(&mut self.deleted, value, levels_left),
            _ => skip(value, levels_left),
        }
    }
}

impl<'de> SetMember<'de> for RawGuard<'de> {
    fn set_member<A: MapAccess<'de>>(
        &mut self,
        name: &str,
        value: &mut A,
        levels_left: usize,
    ) -> Result<(), A::Error> {
        match name {
            "recordId" => set_once(&mut self.record_id, value, levels_left),
            "version" => set_once(&mut self.version, value, levels_left),
            _ => skip(value, levels_left),
        }
    }
}
