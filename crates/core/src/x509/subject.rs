//! The subject's distinguished name (RFC 5280 section 4.1.2.6), one relative name for each value, in the usual order.
//!
//! It refuses attributes that cert-manager does not have, and values longer than the standard's upper bounds.

use super::der;
use super::names::{NameError, check_attribute, check_common_name};
use crate::rejection::{Reason, Rejection};
use crate::spec::Subject;

/// Last arc of an attribute's identifier below id-at (2.5.4), its field, its upper bound in octets, its string type.
struct Attribute(u8, &'static str, usize, u8);

const COUNTRY: Attribute = Attribute(6, "countries", 2, der::PRINTABLE_STRING);
const PROVINCE: Attribute = Attribute(8, "provinces", 128, der::UTF8_STRING);
const LOCALITY: Attribute = Attribute(7, "localities", 128, der::UTF8_STRING);
const STREET: Attribute = Attribute(9, "streetAddresses", 128, der::UTF8_STRING);
const POSTAL_CODE: Attribute = Attribute(17, "postalCodes", 40, der::UTF8_STRING);
const ORGANIZATION: Attribute = Attribute(10, "organizations", 64, der::UTF8_STRING);
const UNIT: Attribute = Attribute(11, "organizationalUnits", 64, der::UTF8_STRING);
const SERIAL: Attribute = Attribute(5, "serialNumber", 64, der::PRINTABLE_STRING);
const COMMON_NAME: u8 = 3;

/// Encodes the subject as a Name; an empty one is an empty SEQUENCE. Rejects bad values with INVALID_SPEC.
pub fn encode(common_name: Option<&str>, subject: &Subject) -> Result<Vec<u8>, Rejection> {
    let mut content = Vec::new();
    let serial: Vec<String> = subject.serial_number.iter().cloned().collect();
    let lists: [(Attribute, &[String]); 8] = [
        (COUNTRY, &subject.countries),
        (PROVINCE, &subject.provinces),
        (LOCALITY, &subject.localities),
        (STREET, &subject.street_addresses),
        (POSTAL_CODE, &subject.postal_codes),
        (ORGANIZATION, &subject.organizations),
        (UNIT, &subject.organizational_units),
        (SERIAL, &serial),
    ];
    for (Attribute(arc, field, octets_max, tag), values) in lists {
        for value in values {
            check_attribute(value, octets_max).map_err(|error| refuse(&format!("spec.subject.{field}"), &error))?;
            if tag == der::PRINTABLE_STRING && !value.bytes().all(printable) {
                let message = format!("{value:?} has a character that a printable string may not contain");
                return Err(Rejection::field(Reason::InvalidSpec, format!("spec.subject.{field}"), message));
            }
            content.extend(relative_name(arc, tag, value));
        }
    }
    if let Some(name) = common_name {
        check_common_name(name).map_err(|error| refuse("spec.commonName", &error))?;
        content.extend(relative_name(COMMON_NAME, der::UTF8_STRING, name));
    }
    Ok(der::encode(der::SEQUENCE, &[&content]))
}

fn refuse(field: &str, error: &NameError) -> Rejection {
    Rejection::field(Reason::InvalidSpec, field, error.to_string())
}

fn printable(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&octet)
}

fn relative_name(arc: u8, tag: u8, value: &str) -> Vec<u8> {
    let oid = der::encode(der::OID, &[&[0x55, 0x04, arc]]);
    let value = der::encode(tag, &[value.as_bytes()]);
    der::encode(der::SET, &[&der::encode(der::SEQUENCE, &[&oid, &value])])
}
