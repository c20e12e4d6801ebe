//! The names in a certificate: who a client is, as an authority vouches for it.

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// DER tags of the types that matter here.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
/// 2.5.4.3, the common name.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// The common name of the subject, then its DNS names and URIs. The certificate was verified before.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    let common = common_name(certificate.subject());
    let alternative = certificate.valid_dns_names().chain(certificate.valid_uri_names());
    common.into_iter().chain(alternative).map(str::to_owned).collect()
}

/// The common name in a distinguished name: sets of pairs of a type and a value. The last one is the most specific.
fn common_name(mut subject: &[u8]) -> Option<&str> {
    let mut found = None;
    while let Some((SET, mut set)) = element(&mut subject) {
        while let Some((SEQUENCE, mut pair)) = element(&mut set) {
            let (Some((OBJECT_IDENTIFIER, kind)), Some((tag, value))) =
                (element(&mut pair), element(&mut pair))
            else {
                continue;
            };
            if kind == COMMON_NAME && matches!(tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING) {
                found = std::str::from_utf8(value).ok().filter(|name| !name.is_empty()).or(found);
            }
        }
    }
    found
}

/// Takes the first element of some DER: its tag and its content.
fn element<'a>(der: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // The length in one or two bytes; a name is no longer.
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    let content = rest.get(..length)?;
    *der = &rest[length..];
    Some((tag, content))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_certificate_names_its_subject() {
        let mut params = CertificateParams::new(vec!["shop.example".to_owned()]).unwrap();
        let uri = "spiffe://example/ns/shop".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        params.distinguished_name.push(DnType::OrganizationName, "a".repeat(200));
        params.distinguished_name.push(DnType::CommonName, "Zoë's shop");
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(names(certificate.der()), ["Zoë's shop", "shop.example", "spiffe://example/ns/shop"]);

        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert!(names(certificate.der()).is_empty());
    }

    #[test]
    fn what_is_cut_short_is_no_name() {
        for der in [&[][..], &[SET], &[SET, 5, 1], &[SET, 0x82, 1], &[SET, 0x81], &[SET, 0x84, 0, 0, 0, 1, 0]]
        {
            assert_eq!(common_name(der), None, "{der:?}");
        }
        assert!(names(&CertificateDer::from(vec![1, 2, 3])).is_empty());
    }
}
