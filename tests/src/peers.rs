//! Real peers: OpenSSL, GnuTLS and nginx.
//!
//! It refuses stand-ins: what a peer says is what the test believes.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use certwright_seams::Seams;
use certwright_seams::net::pick_port;

use crate::program::{eventually, must, peer};

/// A port nobody listens on just now.
pub fn free_port() -> u16 {
    let mut drawn = std::iter::repeat_with(|| pick_port(&*Seams::system().entropy));
    drawn.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// `openssl verify -x509_strict` and `certtool --verify` must both accept the certificate under this root.
pub fn verify_everywhere(root: &Path, intermediates: Option<&Path>, certificate: &Path) {
    let untrusted = intermediates.into_iter().flat_map(|path| [Path::new("-untrusted"), path]);
    let mut openssl = Command::new(peer("openssl"));
    must(openssl.args(["verify", "-x509_strict", "-CAfile"]).arg(root).args(untrusted).arg(certificate));
    let parts = [certificate].into_iter().chain(intermediates);
    let bundle: String = parts.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bundle).unwrap();
    let said = must(
        Command::new(peer("certtool"))
            .arg("--verify")
            .arg("--load-ca-certificate")
            .arg(root)
            .arg("--infile")
            .arg(file.path()),
    );
    assert!(said.contains("Verified. The certificate is trusted."), "certtool: {said}");
}

/// What `openssl x509` prints of a certificate with these options.
pub fn openssl_x509(certificate: &Path, options: &[&str]) -> String {
    must(Command::new(peer("openssl")).args(["x509", "-noout", "-in"]).arg(certificate).args(options))
        .trim()
        .to_string()
}

/// A real nginx that serves a delivered certificate over TLS on loopback.
pub struct Nginx {
    child: Child,
    folder: PathBuf,
    /// Where it listens.
    pub port: u16,
}

impl Nginx {
    /// Writes its configuration into `folder`; `certificates` is the target directory. It is started by [`Nginx::start`],
    /// after the first delivery.
    pub fn configure(folder: &Path, certificates: &Path, port: u16) {
        std::fs::create_dir_all(folder).unwrap();
        let (folder, certificates) = (folder.display(), certificates.display());
        let text = format!(
            "pid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nworker_processes 1;\nevents {{ worker_connections 256; }}\n\
             http {{\n access_log off;\n client_body_temp_path {folder};\n proxy_temp_path {folder};\n fastcgi_temp_path {folder};\n \
             uwsgi_temp_path {folder};\n scgi_temp_path {folder};\n server {{\n  listen 127.0.0.1:{port} ssl;\n  \
             ssl_certificate {certificates}/fullchain.pem;\n  ssl_certificate_key {certificates}/key.pem;\n  \
             ssl_session_tickets off;\n  ssl_session_cache off;\n  location / {{ return 200 'certwright'; }}\n }}\n}}\n"
        );
        std::fs::write(format!("{folder}/nginx.conf"), text).unwrap();
    }

    /// Writes a reload hook: nothing to do before the first start, `nginx -s reload` from then on. Answers the script.
    pub fn write_hook(folder: &Path) -> String {
        let (script, nginx) = (folder.join("reload.sh"), peer("nginx"));
        let folder = folder.display();
        let text = format!(
            "[ -s {folder}/nginx.pid ] || exit 0\nexec {} -e stderr -c {folder}/nginx.conf -s reload\n",
            nginx.display()
        );
        std::fs::write(&script, text).unwrap();
        script.display().to_string()
    }

    /// The certificate `shop` in the namespace `web`, delivered to `certificates` and looked at where nginx serves it.
    /// `times` are duration and renewBefore.
    pub fn manifest(certificates: &Path, script: &str, port: u16, times: [&str; 2]) -> String {
        let ([duration, renew_before], directory) = (times, certificates.display());
        format!(
            "apiVersion: certwright.dev/v1\nkind: Certificate\nmetadata: {{name: shop, namespace: web}}\nspec:\n  \
             dnsNames: [shop.example.com]\n  duration: {duration}\n  renewBefore: {renew_before}\n  \
             issuerRef: {{name: demo}}\n  targets:\n  - name: nginx\n    agent: agent-1\n    \
             files: {{directory: {directory}}}\n    reload:\n      exec: [/bin/sh, {script}]\n    \
             servedCheck: {{address: '127.0.0.1:{port}', serverName: shop.example.com}}\n"
        )
    }

    /// Starts it and waits until it answers.
    pub fn start(folder: &Path, port: u16) -> Self {
        let child = Command::new(peer("nginx"))
            .args(["-e", "stderr", "-g", "daemon off;", "-c"])
            .arg(folder.join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self { child, folder: folder.to_path_buf(), port };
        eventually("nginx listens", Duration::from_secs(10), || {
            (std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() && nginx.folder.join("nginx.pid").exists())
                .then_some(())
        });
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its workers on TERM; killing it outright would leave them behind.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
